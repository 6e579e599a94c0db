from nebula_async.sync import NebulaClient

client = NebulaClient(api_key="YOUR_API_KEY")

response = client.generate_image(
    model="dall-e-3",
    prompt="A serene mountain lake at sunset",
    size="1024x1024",
    quality="hd"
)

# Download the image
import requests
image_url = response.data["images"][0]["url"]
image_data = requests.get(image_url).content
with open("generated_image.png", "wb") as f:
    f.write(image_data)
