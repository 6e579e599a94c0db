"""What a job stored, and what was exported of it, is read by the libraries that it is for, row by row.

`make test-datasets` runs it, with Hugging Face `datasets` and `webdataset`, in an environment of their own.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve, frozen
from PIL import Image as Pillow

HOME = tempfile.TemporaryDirectory()
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": HOME.name, "HF_DATASETS_CACHE": HOME.name}

import datasets  # noqa: E402 - it reads its settings when it is imported
import webdataset  # noqa: E402

from nebula_async import AsyncNebula, BulkJob, Config  # noqa: E402
from nebula_async.bulk.export.exporter import export_job  # noqa: E402
from nebula_async.bulk.export.shards import Limits  # noqa: E402
from nebula_async.emulator import Emulator  # noqa: E402

SCHNELL, SDXL = "black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-xl-base-1.0"

PLAIN = [{"prompt": f"cat {number}", "model": SCHNELL, "width": 64, "height": 48} for number in range(7)]
FULL = [
    *PLAIN,
    {"prompt": "zwei Kätzchen 🐈,\n\"spielend\"", "id": "kätzchen/1", "model": SDXL, "width": 64, "height": 64,
     "negative_prompt": "a dog", "guidance_scale": 7, "num_steps": 9, "seed": 2**53 + 1},
    {"prompt": "a lake", "dialect": "inference", "model": "dall-e-3", "size": "256x256", "n": 2, "quality": "hd"},
    {"prompt": "last.tar.gz", "id": "../../x", "model": SCHNELL, "width": 64, "height": 64, "seed": 0},
]  # fmt: skip
"""Rows in which the first ones lack what later ones have: types cannot be guessed from these."""


@frozen
class Job:
    """A job's folder, and what its pictures are: by the name of each sample its row and its bytes."""

    out: Path
    pictures: dict[str, tuple[dict[str, Any], bytes]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows in the order of the samples."""
        return [row for row, _ in self.pictures.values()]

    @property
    def data(self) -> list[bytes]:
        """The pictures in the order of the samples."""
        return [data for _, data in self.pictures.values()]


def name_of(row: dict[str, Any], of_item: dict[int, int]) -> str:
    """Return the name of a row's sample: the item's number, and which of its pictures it is."""
    number = row["number"]
    index = of_item[number] = of_item.get(number, -1) + 1
    return f"{number:09}-{index}" if index else f"{number:09}"


def read_job(out: Path) -> Job:
    """Read what the job says of its pictures in `images/metadata.jsonl`."""
    rows = [json.loads(line) for line in (out / "images/metadata.jsonl").read_text().splitlines()]
    of_item: dict[int, int] = {}
    rows.sort(key=lambda row: (row["number"], len(row["file_name"]), row["file_name"]))
    return Job(out, {name_of(row, of_item): (row, (out / "images" / row["file_name"]).read_bytes()) for row in rows})


async def generate(manifest: Path, out: Path, picture_format: str, **options: Any) -> None:
    """Run a job against an emulator whose pictures have this format."""
    with Emulator(latency=0.0, image_format=picture_format) as emulator:
        config = evolve(
            Config(),
            base_url=emulator.base_url,
            inference_url=emulator.inference_url,
            allowed_image_hosts=(emulator.storage_host,),
        )
        async with (
            AsyncNebula(emulator.key, config=config) as nebula,
            BulkJob(manifest, out, nebula, server="emulator", **options) as job,
        ):
            await job.run()


def make_job(folder: Path, rows: list[dict[str, Any]], *formats: str) -> Job:
    """Make a job of these rows, its first seven in the first of these formats, the rest in the last one."""
    manifest, out = folder / "prompts.jsonl", folder / "out"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for number, picture_format in enumerate(formats, 1):
        options = {} if number == len(formats) else {"limit": len(PLAIN)}
        anyio.run(lambda name=picture_format, given=options: generate(manifest, out, name, **given))
    return read_job(out)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> Job:
    """A job of both dialects, with pictures of two types."""
    job = make_job(tmp_path_factory.mktemp("mixed"), FULL, "png", "jpeg")
    assert [*(f"{number:09}" for number in range(9)), "000000008-1", "000000009"] == list(job.pictures)
    assert {".png", ".jpg"} == {Path(row["file_name"]).suffix for row in job.rows}
    return job


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Job:
    """A job whose rows are alike."""
    return make_job(tmp_path_factory.mktemp("plain"), PLAIN, "webp")


def load(*given: str, **options: Any) -> datasets.Dataset:
    """Load a data set, every time anew."""
    with tempfile.TemporaryDirectory() as cache:
        return datasets.load_dataset(*given, split="train", cache_dir=cache, keep_in_memory=True, **options)


def undecoded(loaded: datasets.Dataset, column: str) -> list[dict[str, Any] | None]:
    """Return pictures as bytes and path."""
    return loaded.cast_column(column, datasets.Image(decode=False))[column][:]


def assert_rows(job: Job, rows: list[dict[str, Any]]) -> None:
    """The rows say of each picture all that the job says."""
    assert job.rows == [{name: row[name] for name in job.rows[0]} for row in rows]


def assert_sizes(job: Job, pictures: list[Any]) -> None:
    """The pictures are decoded, and as large as the job says."""
    assert [(row["width"], row["height"]) for row in job.rows] == [picture.size for picture in pictures]


@pytest.mark.parametrize("kind", ["mixed", "plain"])
def test_images_load_as_an_image_folder(request, kind):
    """`load_dataset("imagefolder", data_dir=OUT/images)` finds every picture and every fact."""
    job = request.getfixturevalue(kind)
    loaded = load("imagefolder", data_dir=str(job.out / "images"))
    by_sha = {row["sha256"]: (row, data) for row, data in job.pictures.values()}
    assert len(by_sha) == len(loaded)
    for row, picture in zip(loaded, undecoded(loaded, "image"), strict=True):
        said, data = by_sha.pop(row["sha256"])
        assert (said["width"], said["height"]) == row["image"].size
        assert data == (picture["bytes"] or Path(picture["path"]).read_bytes())
        assert {name: value for name, value in said.items() if name != "file_name"} == {
            name: row[name] for name in said if name != "file_name"
        }


@pytest.mark.parametrize("kind", ["mixed", "plain"])
@pytest.mark.parametrize("how", ["folder", "name"])
def test_parquet_is_read_with_its_pictures(request, kind, how):
    """`load_dataset("parquet", data_dir=…)`, and the folder alone, give decoded pictures and typed columns."""
    job = request.getfixturevalue(kind)
    folder = str(export_job(job.out, "parquet", limits=Limits(items=4)).folder)
    loaded = load(folder) if how == "folder" else load("parquet", data_dir=folder)
    assert datasets.Image() == loaded.features["image"]
    assert {"int64", "float64", "string"} == {feature.dtype for name, feature in loaded.features.items()
                                              if name != "image"}  # fmt: skip
    assert_rows(job, list(loaded.remove_columns("image")))
    assert_sizes(job, loaded["image"][:])
    assert job.data == [picture["bytes"] for picture in undecoded(loaded, "image")]


@pytest.mark.parametrize("kind", ["mixed", "plain"])
def test_webdataset_reads_its_shards(request, kind):
    """`webdataset.WebDataset` gives every sample whole: picture, prompt and facts."""
    job = request.getfixturevalue(kind)
    made = export_job(job.out, "webdataset", limits=Limits(items=4))
    shards = [str(path) for path in sorted(made.folder.glob("*.tar"))]
    assert made.shards == len(shards) > 1
    raw = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert list(job.pictures) == [sample["__key__"] for sample in raw]
    pictures = [next(sample[end] for end in ("png", "jpg", "webp") if end in sample) for sample in raw]
    assert job.data == pictures
    assert [row["prompt"] for row in job.rows] == [sample["txt"].decode() for sample in raw]
    assert_rows(job, [json.loads(sample["json"]) for sample in raw])

    decoded = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png;jpg;webp", "json")
    assert_sizes(job, [picture for picture, _ in decoded])


def test_a_webdataset_folder_is_read_by_its_card(mixed):
    """`load_dataset(folder)` knows all columns by the card, also those that are null in the first samples."""
    folder = export_job(mixed.out, "webdataset", limits=Limits(items=4)).folder
    loaded = load(str(folder))
    assert mixed.rows[0].keys() == loaded.features["json"].keys()
    assert_rows(mixed, loaded["json"][:])
    assert [row["prompt"] for row in mixed.rows] == loaded["txt"][:]
    columns = zip(undecoded(loaded, "png"), undecoded(loaded, "jpg"), strict=True)
    data = [(png or jpg)["bytes"] for png, jpg in columns]
    assert mixed.data == data
    assert_sizes(mixed, [Pillow.open(io.BytesIO(picture)) for picture in data])


@pytest.mark.parametrize("how", ["folder", "name"])
def test_a_webdataset_of_one_kind_is_read_by_name(plain, how):
    """`load_dataset("webdataset", …)` reads shards whose rows are alike, without the card too."""
    folder = str(export_job(plain.out, "webdataset", limits=Limits(items=4)).folder)
    loaded = load(folder) if how == "folder" else load("webdataset", data_files=f"{folder}/*.tar")
    assert_rows(plain, loaded["json"][:])
    assert_sizes(plain, loaded["webp"][:])
    assert plain.data == [picture["bytes"] for picture in undecoded(loaded, "webp")]
