"""Pictures into a bucket: each is streamed there while it arrives, and its URL comes back.

export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_REGION=...   # AWS_ENDPOINT_URL for others than Amazon
pip install 'nebula_async[s3]' && python examples/object_store.py s3://bucket/cats
"""

import asyncio
import sys

from nebula_async import AsyncNebula, BulkJob, Failure, ObjectStoreSink

SHARED = {"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256}


async def many(place):
    async with (
        AsyncNebula() as nebula,
        nebula.generate_many(["a cat", "a dog"], sink=ObjectStoreSink(f"{place}/many"), **SHARED) as results,
    ):
        async for result in results:
            print(result.error if isinstance(result, Failure) else result.image.stored)


async def job(place):
    """Run a job whose pictures lie in the bucket; what it knows lies in a folder, which is what resumes."""
    async with BulkJob(["an owl", "a fox"], out=f"{place}/job", job="owl-and-fox", defaults=SHARED) as job:
        report = await job.run()
        print(f"{report.done} of {report.total} are in {job.pictures}")


async def main(place):
    await many(place)
    await job(place)


asyncio.run(main(*sys.argv[1:]))
