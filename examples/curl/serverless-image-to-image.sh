# Image to image, as the serverless page's sample asks for it: the white part of the mask is painted anew.
set -u
image=$(base64 < "$(dirname "$0")/../pictures/cat.jpg" | tr -d '\n')
mask=$(base64 < "$(dirname "$0")/../pictures/mask.jpg" | tr -d '\n')

curl -X POST "$NEBULA_BASE_URL/images/generation" \
    -H "Content-Type: application/json" \
    -H "Authorization: Bearer $NEBULA_API_KEY" \
    --data-raw '{
    "model":"black-forest-labs/FLUX.1-Fill-dev",
    "prompt": "a red baseball cap",
    "num_steps": 40,
    "guidance_scale": 4.5,
    "width": 1024,
    "height": 1024,
    "image": "'"$image"'", 
    "mask": "'"$mask"'"
}'
