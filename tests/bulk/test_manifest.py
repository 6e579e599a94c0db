"""Manifests are read as users write them, one entry at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st
from manifests import MODEL, item, read, source_of, write

from nebula_async.bulk.manifest.columns import CELLS
from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.manifest.table import NUMBER_COLUMNS, WHOLE_COLUMNS
from nebula_async.errors import JobError
from nebula_async.requests import ImageRequest, InferenceRequest

ROWS = (
    "prompt,width,guidance_scale,seed,id\r\na cat,512,3.5,-1,x\r\n"
    '"two\r\nlines, ""quoted""",,,,\r\n\r\na dog, 64 ,1e1,,\r\n'
)


@pytest.mark.parametrize(
    ("name", "content", "items"),
    [
        ("p.txt", "a cat\na dog\n", [item(0, 1, "a cat"), item(1, 2, "a dog")]),
        ("p.txt", "a cat\r\n\r\n \u200b\r\n  a dog  ", [item(0, 1, "a cat"), item(1, 4, "a dog")]),
        ("p.txt", "\ufeffa cat\n", [item(0, 1, "a cat")]),
        ("P.TXT", "猫 🐱\u2028same line\n", [item(0, 1, "猫 🐱\u2028same line")]),
        ("p.txt", "old\rMac\r", [item(0, 1, "old"), item(1, 2, "Mac")]),
        ("p.txt", '"quoted", {"json": 1}\n', [item(0, 1, '"quoted", {"json": 1}')]),
        ("p.jsonl", '"a cat"\n', [item(0, 1, "a cat")]),
        (
            "p.jsonl",
            '\ufeff{"prompt": "a cat", "width": 512, "guidance_scale": 3.5, "extra": {"a": 1}}\r\n\n {"prompt": "dog"}',
            [item(0, 1, "a cat", width=512, guidance_scale=3.5, extra={"a": 1}), item(1, 3, "dog")],
        ),
        ("p.jsonl", '{"prompt": "\\u0000\\ud83d\\ude00", "seed": null}', [item(0, 1, "\0😀")]),
        (
            "p.csv",
            ROWS,
            [
                item(0, 2, "a cat", width=512, guidance_scale=3.5, seed=-1, id="x"),
                item(1, 3, 'two\r\nlines, "quoted"'),
                item(2, 6, "a dog", width=64, guidance_scale=10.0),
            ],
        ),
        (
            "p.csv",
            "\ufeff\nwidth , prompt\n,a cat",
            [item(0, 3, "a cat")],
        ),
        ("p.csv", 'prompt\na cat\n""\n', [item(0, 2, "a cat")]),
        ("p.tsv", "prompt\tseed\na, b\t7\n", [item(0, 2, "a, b", seed=7)]),
    ],
)
def test_manifests_are_read_as_people_write_them(tmp_path, name, content, items):
    """Byte order marks, both line ends, blank lines, quoting and a missing last newline are all fine (B15)."""
    assert items == read(write(tmp_path, name, content))


def test_what_a_row_says_wins_over_the_defaults(tmp_path):
    """Defaults fill what a row leaves out; a JSON null leaves the default out too."""
    path = write(tmp_path, "p.jsonl", '{"prompt": "a", "width": 64}\n{"prompt": "b", "width": null}\n"c"\n')

    expected = [item(0, 1, "a", width=64), item(1, 2, "b"), item(2, 3, "c", width=512)]
    assert expected == read(path, defaults=MODEL | {"width": 512})


def lake(number: int, line: int, prompt: str, **given: object) -> Item:
    """Return an item of the inference API whose model is "m"."""
    return Item(f"#{number}", number, line, InferenceRequest(prompt, model="m", **given))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "prompt,dialect,n,size,width\na,inference,2,64x64,\nb,serverless,,,64\nc,,,,64\n"),
        (
            "p.jsonl",
            '{"prompt": "a", "dialect": "inference", "n": 2, "size": "64x64"}\n'
            '{"prompt": "b", "dialect": "serverless", "width": 64}\n{"prompt": "c", "dialect": null, "width": 64}\n',
        ),
    ],
)
def test_both_dialects_may_stand_in_one_manifest(tmp_path, name, content):
    """An entry says in `dialect` which API it is for; without it, it is for the serverless one."""
    first = 1 if name == "p.jsonl" else 2
    expected = [
        lake(0, first, "a", n=2, size="64x64"),
        item(1, first + 1, "b", width=64),
        item(2, first + 2, "c", width=64),
    ]
    assert expected == read(write(tmp_path, name, content))


def test_the_dialect_may_be_the_same_for_all(tmp_path):
    """With a dialect among the defaults, plain prompts are requests of that API; an entry may still name the other."""
    path = write(tmp_path, "p.jsonl", '"a"\n{"prompt": "b", "dialect": "serverless"}\n')
    assert [lake(0, 1, "a"), item(1, 2, "b")] == read(path, defaults=MODEL | {"dialect": "inference"})
    three = MODEL | {"dialect": "inference", "n": 3}
    assert [lake(0, 1, "a", n=3)] == read(write(tmp_path, "p.txt", "a\n"), defaults=three)


@pytest.mark.parametrize("given", ["cat.png", "sub/../cat.png"])
def test_pictures_are_found_beside_the_manifest(tmp_path, given):
    """A relative picture path starts at the manifest's folder, wherever the job is started."""
    path = write(tmp_path, "p.csv", f"prompt,image,mask\nx,{given},{given}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / given).touch()

    request = read(path)[0].request

    assert [str(tmp_path / given)] * 2 == [request.image, request.mask]


def test_other_pictures_stay_as_they_are(tmp_path, monkeypatch):
    """Absolute paths and data URLs are not changed, and neither are the paths of the defaults."""
    (tmp_path / "here.png").touch()
    monkeypatch.chdir(tmp_path)
    given = [str(tmp_path / "here.png"), "data:image/png;base64,AAAA"]
    lines = [json.dumps({"prompt": "x", "image": image}) for image in given]
    path = write(tmp_path, "p.jsonl", "\n".join([*lines, '"y"']))

    assert [*given, "here.png"] == [entry.request.image for entry in read(path, defaults=MODEL | {"image": "here.png"})]


@pytest.mark.parametrize("given", ["cat.png", "https://example.com/cat.png"])
def test_a_picture_that_is_not_there_is_a_bad_line(tmp_path, given):
    """A picture that no file holds is found before anything is sent."""
    path = write(tmp_path, "p.jsonl", json.dumps({"prompt": "x", "image": given}))

    (bad,) = read(path)
    assert str(bad).startswith("p.jsonl:1: image ")
    assert str(bad).endswith("cat.png is no file")


def test_a_mask_for_all_is_allowed(tmp_path):
    """One mask may serve images that come with each row."""
    cat, mask = str(tmp_path / "cat.png"), str(tmp_path / "m.png")
    path = write(tmp_path, "p.csv", "prompt,image\nx,cat.png\n")
    for picture in (cat, mask):
        Path(picture).touch()

    assert [item(0, 2, "x", image=cat, mask=mask)] == read(path, defaults=MODEL | {"mask": mask})


def test_a_manifest_is_read_lazily(tmp_path):
    """The first item is there before the rest of the file is read, and stopping early closes the file."""
    path = write(tmp_path, "p.txt", "first\n" + "x" * 2**20 + "\n" + "y\n" * 2**19)
    tracemalloc.start()
    try:
        entries = source_of(path).entries()
        assert item(0, 1, "first") == next(entries)
        entries.close()
        assert tracemalloc.get_traced_memory()[1] < 2**19
    finally:
        tracemalloc.stop()


def test_reading_needs_little_memory(tmp_path):
    """A manifest of many items is read without holding them (B15)."""
    count = 20_000
    text = "".join(f'{{"prompt": "{"x" * 200}", "id": "item-{number}"}}\n' for number in range(count))
    path = write(tmp_path, "p.jsonl", text)
    tracemalloc.start()
    try:
        assert count == sum(isinstance(entry, Item) for entry in source_of(path).entries())
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


def test_every_number_field_has_a_cell_type():
    """Each numeric field of a request of either kind can be given in a CSV cell."""
    kinds = (ImageRequest, InferenceRequest)
    types = {attribute.name: str(attribute.type) for kind in kinds for attribute in fields(kind)}

    assert {name for name, kind in types.items() if "int" in kind} == WHOLE_COLUMNS
    assert {name for name, kind in types.items() if "float" in kind} == NUMBER_COLUMNS
    assert {*types, "dialect"} - {"extra"} == CELLS


TEXT = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(['"', ",", "\t", "\n", "\r\n", "prompt", "width", "{", "}", ":", "1", "[", "é"])).map(
        lambda parts: "".join(parts).encode()
    ),
)


@given(st.sampled_from(["p.txt", "p.csv", "p.tsv", "p.jsonl"]), st.sampled_from([b"", b"prompt,width\n", b"{"]), TEXT)
def test_any_bytes_are_items_or_bad_lines(tmp_path_factory, name, start, content):
    """Whatever is in a manifest, it becomes items and bad lines, or one `JobError` if there is nothing."""
    path = write(tmp_path_factory.getbasetemp(), name, start + content)
    try:
        entries, refusal = read(path), ""
    except JobError as error:
        entries, refusal = [], str(error)
    assert bool(entries) != ("there is no request in" in refusal)
