"""A job that survives: it is stopped after five pictures, and the same job goes on with those that are left.

python examples/job_that_resumes.py
"""

import asyncio

from nebula_async import BulkJob, Generation

PROMPTS = [f"a cat with {number} hats" for number in range(12)]
CATS = {"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256}


async def first_run():
    stored = []

    def take(result):  # is called once the picture is stored and the ledger knows it
        stored.append(result)
        if len(stored) == 5:
            job.drain()  # sends nothing more, and loses nothing that is in flight

    async with BulkJob(PROMPTS, out="hats", defaults=CATS, concurrency=2, on_result=take) as job:
        report = await job.run()
    print(f"first run: {report.done} of {report.total}, {report.waiting} wait")


async def second_run():
    async with BulkJob(PROMPTS, out="hats", defaults=CATS) as job:  # the same, as after a kill or a power cut
        async with job.results() as results:
            names = [result.image.stored async for result in results if isinstance(result, Generation)]
        report = await job.report()
    print(f"second run: {len(names)} more, {report.done} of {report.total}, exit code {report.exit_code}")
    print(f"charged: {report.charges} pictures")


async def main():
    await first_run()
    await second_run()


asyncio.run(main())
