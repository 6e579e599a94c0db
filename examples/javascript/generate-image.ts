// The JavaScript sample of the image generation page: the same request, and its picture saved in a file.
// With what `nebula-async emulator` tells to export: npm install, npm run generate, npm run build, npm start.

import { writeFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const { NEBULA_API_KEY: apiKey, NEBULA_INFERENCE_URL: inferenceUrl } = process.env;

async function generateImage(): Promise<string> {
  if (!apiKey || !inferenceUrl) {
    throw new Error("NEBULA_API_KEY and NEBULA_INFERENCE_URL have to be set");
  }
  // The schema's paths begin with the /v1 that ends the URL.
  const client = createClient<paths>({
    baseUrl: inferenceUrl.replace(/\/v1\/?$/, ""),
    headers: { Authorization: `Bearer ${apiKey}` },
  });
  const { data, error, response } = await client.POST("/v1/images/generate", {
    body: {
      model: "dall-e-3",
      prompt: "A serene mountain lake at sunset",
      size: "1024x1024",
      quality: "hd",
    },
  });
  if (data === undefined) {
    // Only the API itself answers in the documented envelope; a gateway has a page of its own.
    const refusal = typeof error === "object" ? error.error : undefined;
    throw new Error(refusal ? `${refusal.code}: ${refusal.message}` : statusLine(response));
  }

  // Download the image
  const imageUrl = data.data.images[0]?.url;
  if (!imageUrl) {
    throw new Error("the reply holds no URL of a picture");
  }
  const imageResponse = await fetch(imageUrl);
  const blob = await imageResponse.blob();
  if (!imageResponse.ok || !blob.type.startsWith("image/")) {
    throw new Error(`${imageUrl} is no picture: ${statusLine(imageResponse)}, ${blob.type}`);
  }
  await writeFile("generated_image.png", blob.stream());
  return "generated_image.png";
}

function statusLine(response: Response): string {
  return `${response.status} ${response.statusText}`;
}

/** What fetch hides behind "fetch failed" is in the cause. */
function explain(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}

try {
  console.log(await generateImage());
} catch (error) {
  console.error(`generate-image: ${explain(error)}`);
  process.exitCode = 1;
}
