"""A job that may spend a cent: what a request may cost is reserved before it leaves, so none is sent that is too much.

python examples/job_with_a_budget.py
"""

import asyncio

from nebula_async import AsyncNebula, BulkJob
from nebula_async.bulk.budget import Budget

PROMPTS = [f"a coin with the number {number}" for number in range(20)]
COINS = {"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256}


async def main():
    async with AsyncNebula() as nebula:
        await nebula.models()  # from here on prices are the account's own
        async with BulkJob(PROMPTS, out="coins", nebula=nebula, defaults=COINS, budget=Budget(max_cost="0.01")) as job:
            report = await job.run()
            print("stopped by:", report.stopped_by)
            print(f"{report.done} of {report.total} for {report.spending.at_most} USD; {report.waiting} wait")

        more = Budget(max_cost="0.10")  # for the whole job: what was spent counts
        async with BulkJob(PROMPTS, out="coins", nebula=nebula, defaults=COINS, budget=more) as job:
            report = await job.run()
            print(f"{report.done} of {report.total}, exit code {report.exit_code}")


asyncio.run(main())
