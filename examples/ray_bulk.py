"""A Ray dataset of prompts, mapped to pictures by two actors, which keep to the account's limit together.

    pip install 'nebula_async[ray]'
    python ray_bulk.py

Run it again: nothing is sent, as the folder holds the pictures. On a cluster, give a `gate` and a sink that all share.
"""

import os

import ray

from nebula_async import DirectorySink
from nebula_async.integrations.ray import generate_images

ROWS = [{"number": number, "caption": f"{animal} {place}"} for number, (animal, place) in enumerate(
    (animal, place) for animal in ("a cat", "an owl", "a fox") for place in ("in the snow", "on a bicycle", "at sea")
)]  # fmt: skip


def main() -> None:
    """Make the pictures, and print what became of each row."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, logging_level="error")
    pictures = generate_images(
        ray.data.from_items(ROWS),
        sink=DirectorySink("ray-pictures"),
        columns={"caption": "prompt"},
        defaults={"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256},
        actors=2,
        concurrency=16,
    )
    rows = sorted(pictures.take_all(), key=lambda row: row["number"])
    for row in rows:
        print(
            f"{row['caption']:20} {row['image_status']:8} {row['image_seed']}", row["image_path"] or row["image_error"]
        )
    print(f"{sum(row['image_charges_at_most'] for row in rows)} pictures charged, USD {sum_of_costs(rows):.4f}")
    ray.shutdown()


def sum_of_costs(rows: list[dict]) -> float:
    """Return what the pictures cost that were certainly charged."""
    return sum(row["image_cost"] or 0 for row in rows)


if __name__ == "__main__":
    main()
