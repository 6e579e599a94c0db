"""What happens meanwhile, counted for a dashboard: an observer is any callable, and is told of every step.

python examples/metrics.py
"""

import asyncio
from collections import Counter

from nebula_async import AsyncNebula
from nebula_async.events import Failed, Generated, Held, Retrying


class Metrics:
    """Counts events; replace the counters by those of your metrics library."""

    def __init__(self):
        self.counts = Counter()
        self.seconds = []

    def __call__(self, event):
        """Take note of an event."""
        self.counts[type(event).__name__] += 1
        match event:
            case Generated(pictures=pictures, charges=charges, seconds=seconds):
                self.counts["pictures"] += pictures
                self.counts["charged at most"] += charges.at_most
                self.seconds.append(seconds)
            case Failed(error=error):
                self.counts[f"failed: {error}"] += 1
            case Retrying(reason=reason, delay_seconds=seconds):
                print(f"again in {seconds:.1f} s: {reason}")
            case Held(seconds=seconds):
                print(f"the API refuses: everyone waits for {seconds:.1f} s")


async def main():
    metrics = Metrics()
    async with AsyncNebula(observer=metrics) as nebula:
        await nebula.generate_all(["a cat", "a dog"], model="black-forest-labs/FLUX.1-schnell", width=128, height=128)
        await nebula.generate_all(["a fox"], model="no/such-model")
    for name, count in sorted(metrics.counts.items()):
        print(f"{name:20} {count}")
    print(f"{'slowest, seconds':20} {max(metrics.seconds):.2f}")


asyncio.run(main())
