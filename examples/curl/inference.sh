# Text to image, as the inference page's sample asks for it; the reply holds a URL, which needs no key.
set -u

curl "$NEBULA_INFERENCE_URL/images/generate" \
  -H "Authorization: Bearer $NEBULA_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "dall-e-3",
    "prompt": "A serene mountain lake at sunset",
    "n": 1,
    "size": "1024x1024",
    "quality": "hd",
    "style": "natural"
  }'
