"""Without asyncio: the same verbs in a script, and in several threads at once.

python examples/without_async.py
"""

from concurrent.futures import ThreadPoolExecutor

from nebula_async import Generation
from nebula_async.sync import NebulaClient

CAT = {"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256}

with NebulaClient() as client:
    cat = client.generate("a cat", **CAT)
    print(client.save(cat.image, "without-async", overwrite=True))

    with client.generate_many(["a red hat", "a blue hat"], **CAT) as results:
        for result in results:
            print(result.index, isinstance(result, Generation))

    with ThreadPoolExecutor(4) as threads:
        cats = list(threads.map(lambda number: client.generate(f"cat {number}", **CAT), range(4)))
    print(len(cats), "from threads; balance:", client.credits())
