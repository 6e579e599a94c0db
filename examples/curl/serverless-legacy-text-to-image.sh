# Text to image, as the serverless page asked for it before `model_name` became `model`; otherwise the same sample.
set -u

curl -X GET "$NEBULA_BASE_URL/api/v1/images/generation" \
-H "Authorization: Bearer $NEBULA_API_KEY" \
-H 'Content-Type: application/json' \
-d '{
    "model_name": "stabilityai/stable-diffusion-xl-base-1.0",
    "prompt": "insert your prompt here",
    "num_steps": 25,
    "guidance_scale": 9,
    "width": 1024,
    "height": 1024,
    "negative_prompt": null
}'
