# Text to image, as the serverless page's sample asks for it: GET with a body, and /api/v1 twice in the path.
set -u

curl -X GET "$NEBULA_BASE_URL/api/v1/images/generation" \
-H "Authorization: Bearer $NEBULA_API_KEY" \
-H 'Content-Type: application/json' \
-d '{
    "model": "stabilityai/stable-diffusion-xl-base-1.0",
    "prompt": "insert your prompt here",
    "num_steps": 25,
    "guidance_scale": 9,
    "width": 1024,
    "height": 1024,
    "negative_prompt": null
}'
