curl https://api.inference.nebulablock.com/v1/images/generate \
  -H "Authorization: Bearer YOUR_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "dall-e-3",
    "prompt": "A serene mountain lake at sunset",
    "n": 1,
    "size": "1024x1024",
    "quality": "hd",
    "style": "natural"
  }'
