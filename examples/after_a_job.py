"""What a job leaves: its report, what failed, and how each picture was made; then what failed is sent once more.

python examples/after_a_job.py
"""

import asyncio
import json
from pathlib import Path

from nebula_async import BulkJob

OUT = Path("zoo")
PROMPTS = [
    *({"prompt": f"a {animal}", "width": 256, "height": 256} for animal in ("cat", "dog", "owl")),
    {"prompt": "a fox", "model": "no/such-model"},
]


def read(name):
    return [json.loads(line) for line in (OUT / name).read_text().splitlines()]


async def run(prompts, out):
    async with BulkJob(prompts, out=out, defaults={"model": "black-forest-labs/FLUX.1-schnell"}) as job:
        return await job.run()


async def main():
    await run(PROMPTS, OUT)

    report = json.loads((OUT / "report.json").read_text())
    print(f"{report['done']} of {report['items']} done, {report['requests']} requests")
    for row in read("images/metadata.jsonl"):
        print(row["file_name"], row["prompt"], row["seed"])
    for row in read("failed.jsonl"):
        print(f"{row['prompt']!r} of {row['model']}: {row['failure']['error']}")

    mended = [{"prompt": row["prompt"], "width": 256, "height": 256} for row in read("failed.jsonl")]
    print(f"{(await run(mended, Path('zoo-mended'))).done} more with a model that is known")


asyncio.run(main())
