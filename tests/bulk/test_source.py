"""A source gives the items of a manifest under keys that stay, as often as they are wanted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from manifests import MODEL, item, lines, read, source_of, write

from nebula_async.bulk.manifest.columns import FIELDS
from nebula_async.bulk.manifest.items import copy_key, row_key
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.requests import ImageRequest, InferenceRequest


def test_a_row_has_the_key_of_its_id_or_of_its_place(tmp_path):
    """Rows keep their keys when others get an id, are mended or are added at the end."""
    path = write(tmp_path, "p.jsonl", lines("a", {"prompt": "b", "id": "x"}, {}, {"prompt": "c", "id": 7}, "d"))

    keys = [entry.key for entry in read(path) if hasattr(entry, "key")]

    assert ["#0", "x", "7", "#4"] == keys


def test_a_number_as_id_is_its_text(tmp_path):
    """The id of a row may be a whole number, as tables have them."""
    (entry,) = read(write(tmp_path, "p.jsonl", lines({"prompt": "a", "id": 7})))

    assert item(0, 1, "a", id="7") == entry


@pytest.mark.parametrize("name", [True, 1.5, "", [1]])
def test_an_id_is_text_or_a_whole_number(tmp_path, name):
    """Anything else as id is a bad line."""
    (bad,) = read(write(tmp_path, "p.jsonl", lines({"prompt": "a", "id": name})))

    assert "id must be text" in str(bad)


NAMES = st.none() | st.text(alphabet="#*a012", max_size=6) | st.integers()


@given(st.lists(st.tuples(NAMES, st.integers(0, 12)), max_size=20))
def test_no_two_keys_are_the_same_by_chance(pairs):
    """Rows and copies have the same key only where they have the same id, whatever ids look like."""
    keys = {}
    for row, (name, copy) in enumerate(pairs):
        own = row if name is None else str(name)
        assert (own, copy) == keys.setdefault(copy_key(row_key(row, {"id": name}), copy), (own, copy))


def test_repeated_rows_have_consecutive_seeds(tmp_path):
    """Each copy has its own number, key, id and seed; the first one is the row itself."""
    path = write(tmp_path, "p.jsonl", lines({"prompt": "a", "id": "x", "seed": 5}, {"prompt": "b"}))

    first, second, third, *others = read(path, repeat=3)

    assert item(0, 1, "a", id="x", seed=5) == first
    assert evolve(item(1, 1, "a", id="x*2", seed=6), key="x*2") == second
    assert evolve(item(2, 1, "a", id="x*3", seed=7), key="x*3") == third
    assert [(3, "#1"), (4, "#1*2"), (5, "#1*3")] == [(entry.number, entry.key) for entry in others]
    assert {None} == {entry.request.seed for entry in others}


def test_a_seed_for_all_is_counted_up_too(tmp_path):
    """A seed among the defaults is that of the first copy."""
    path = write(tmp_path, "p.txt", "a\n")

    assert [7, 8] == [entry.request.seed for entry in read(path, repeat=2, defaults=MODEL | {"seed": 7})]


def test_a_random_seed_stays_random(tmp_path):
    """The seed -1 asks the API for a random one: so do all copies."""
    path = write(tmp_path, "p.txt", "a\n")

    assert [-1, -1] == [entry.request.seed for entry in read(path, repeat=2, defaults=MODEL | {"seed": -1})]


def test_copies_of_the_other_api_are_the_same_request(tmp_path):
    """The inference API has no seed: its copies differ in their keys alone."""
    path = write(tmp_path, "p.txt", "a\n")

    entries = read(path, repeat=2, defaults=MODEL | {"dialect": "inference"})

    assert [InferenceRequest("a", model="m")] * 2 == [entry.request for entry in entries]


@pytest.mark.parametrize(("field", "value"), [("seed", 2**63 - 1), ("id", "x" * 256)])
def test_a_copy_that_cannot_be_is_a_bad_line(tmp_path, field, value):
    """A seed or an id that cannot be counted up is said before anything is sent."""
    first, bad = read(write(tmp_path, "p.jsonl", lines({"prompt": "a", field: value})), repeat=3)

    assert value == getattr(first.request, field)
    assert str(bad).startswith(f"p.jsonl:1: {field} must be ")


def test_raising_repeat_keeps_what_is_there(tmp_path):
    """The copies that were there before keep their keys and their requests."""
    path = write(tmp_path, "p.jsonl", lines({"prompt": "a", "seed": 5}, {"prompt": "b", "id": "x"}))

    few = {entry.key: entry.request for entry in read(path, repeat=2)}
    many = {entry.key: entry.request for entry in read(path, repeat=5)}

    assert few.items() <= many.items()


@pytest.mark.parametrize("repeat", [0, -1, 10_001, 2.0, True, None])
def test_a_repeat_that_cannot_be_is_refused(tmp_path, repeat):
    """A row may be repeated up to ten thousand times."""
    with pytest.raises(InvalidRequestError, match="repeat must be a whole number from 1 to 10000; got"):
        source_of(write(tmp_path, "p.txt", "a\n"), repeat=repeat)


def test_only_wanted_items_are_looked_at(tmp_path):
    """What is done already is passed over without a look at its picture or its parameters."""
    path = write(tmp_path, "p.jsonl", lines({"prompt": "a", "id": "x", "width": "?"}, "b", "c"))

    assert ["#2*2"] == [entry.key for entry in source_of(path, repeat=2).items({"#2*2"}.__contains__)]


@pytest.mark.parametrize(("limit", "keys"), [(1, ["#0"]), (3, ["#0", "#0*2", "#1"]), (4, ["#0", "#0*2", "#1", "#1*2"])])
def test_a_limit_ends_the_reading(tmp_path, limit, keys):
    """What is behind the first items is not looked at: it may be wrong."""
    source = source_of(write(tmp_path, "p.jsonl", '"a"\n"b"\n{\n'), repeat=2)

    assert keys == [entry.key for entry in source.entries(limit=limit)]
    assert keys[-1:] == [entry.key for entry in source.items({keys[-1], "#2"}.__contains__, limit=limit)]


@pytest.mark.parametrize("row", ['{"prompt": 1}', "{"])
def test_a_row_that_is_bad_now_ends_the_reading(tmp_path, row):
    """A file that is spoiled while a job runs is one error that names the line."""
    path = write(tmp_path, "p.jsonl", '"a"\n' + row)

    with pytest.raises(JobError, match=r"p\.jsonl changed while the job ran: p\.jsonl:2: "):
        list(source_of(path).items())


def test_a_file_that_is_gone_is_said(tmp_path):
    """A file that is removed while a job runs is one error that names it."""
    path = write(tmp_path, "p.txt", "a\n")
    source = source_of(path)
    path.unlink()

    for use in (source.fingerprint, lambda: list(source.items())):
        with pytest.raises(JobError, match=r"p\.txt cannot be read: No such file or directory"):
            use()


def test_a_failed_list_is_a_manifest(tmp_path):
    """What a line tells of a failure is passed over: `failed.jsonl` is input again."""
    row = {"prompt": "a", "failure": {"error": "refused", "width": 1}}

    assert [item(0, 1, "a")] == read(write(tmp_path, "p.jsonl", lines(row)))


def test_a_failure_that_is_none_is_refused(tmp_path):
    """Only an object is passed over, not a column of the user's own."""
    (bad,) = read(write(tmp_path, "p.jsonl", lines({"prompt": "a", "failure": "yes"})))

    assert str(bad).startswith("p.jsonl:1: unknown field failure; known are ")


def test_every_parameter_may_differ_from_row_to_row(tmp_path):
    """Each field of either API can stand in a row, also `extra`, and wins over the defaults."""
    picture = "data:image/png;base64,AAAA"
    image = {"width": 64, "height": 96, "num_steps": 3, "guidance_scale": 1.5, "seed": 1, "negative_prompt": "n"}
    image |= {"prompt": "a", "model": "own", "image": picture, "mask": picture, "id": "x", "extra": {"a": [1]}}
    words = {"prompt": "b", "model": "own", "n": 2, "size": "64x64", "quality": "hd", "style": "vivid", "id": "y"}
    words |= {"negative_prompt": "n", "response_format": "url", "extra": {"b": None}}
    path = write(tmp_path, "p.jsonl", lines(image, {"dialect": "inference", **words}))

    requests = [entry.request for entry in read(path, defaults=MODEL | {"width": 512, "n": 1})]

    assert [ImageRequest.from_dict(image), InferenceRequest.from_dict(words)] == requests
    assert FIELDS == image.keys() | words.keys() | {"dialect"}


def test_defaults_are_a_mapping(tmp_path):
    """Anything else is refused in one sentence."""
    with pytest.raises(InvalidRequestError, match="defaults must be a mapping of fields to values; got 'x'"):
        source_of(write(tmp_path, "p.txt", "x\n"), defaults="x")


@pytest.mark.parametrize("name", ["prompt", "id"])
def test_what_names_one_row_is_no_default(tmp_path, name):
    """A prompt or an id for all rows is refused."""
    with pytest.raises(InvalidRequestError, match=f"{name} cannot be the same for all; give each line its own"):
        source_of(write(tmp_path, "p.txt", "x\n"), defaults={name: "x"})


def test_defaults_are_what_a_file_could_hold(tmp_path):
    """A picture for all rows may be a path or bytes; what cannot be written down is refused at once."""
    (tmp_path / "a.png").touch()
    path = write(tmp_path, "p.txt", "x\n")

    assert str(tmp_path / "a.png") == source_of(path, defaults=MODEL | {"image": tmp_path / "a.png"}).defaults["image"]
    assert source_of(path, defaults={"image": b"abc"}).defaults["image"].startswith("data:")
    with path.open("rb") as file, pytest.raises(InvalidRequestError, match="a BufferedReader cannot be written down"):
        source_of(path, defaults={"image": file})


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("p.yaml", None, r"p\.yaml is of no known kind; give a file whose name ends in .*--format, kind="),
        ("p.parquet.gz", None, r"p\.parquet\.gz is of no known kind"),
        ("p.txt", "xml", "kind must be one of csv, jsonl, parquet, tsv, txt; got 'xml'"),
    ],
)
def test_a_kind_that_is_not_known_is_refused(tmp_path, name, kind, problem):
    """A file of another name is refused, and how to say its kind is said."""
    with pytest.raises((JobError, InvalidRequestError), match=problem):
        source_of(write(tmp_path, name, "x\n"), kind=kind)


@pytest.mark.parametrize(("kind", "prompt"), [("txt", '"a"'), ("jsonl", "a")])
def test_the_kind_may_be_said(tmp_path, kind, prompt):
    """What the user says a file is counts more than its name."""
    assert [item(0, 1, prompt)] == read(write(tmp_path, "p.csv", '"a"\n'), kind=kind)


def test_a_path_may_be_text(tmp_path):
    """A path is taken as text too."""
    assert [item(0, 1, "a")] == read(str(write(tmp_path, "p.txt", "a\n")))


@pytest.mark.parametrize(
    "change",
    [
        {"content": "a\nc\n"},
        {"kind": "jsonl"},
        {"defaults": MODEL | {"width": 64}},
        {"columns": {"a": "prompt"}, "kind": "jsonl"},
        {"repeat": 2},
    ],
)
def test_the_fingerprint_changes_with_the_items(tmp_path, change):
    """Whatever the items depend on is in the fingerprint; the name of the file and its place are not."""
    (tmp_path / "other").mkdir()
    first = source_of(write(tmp_path, "p.txt", "a\nb\n"))
    same = source_of(write(tmp_path / "other", "q.txt", "a\nb\n"), defaults=dict(reversed(MODEL.items())))
    other = source_of(write(tmp_path, "p.txt.changed", change.pop("content", "a\nb\n")), **{"kind": "txt"} | change)

    assert first.fingerprint() == same.fingerprint()
    assert first.fingerprint() != other.fingerprint()


def test_the_body_is_the_same_wherever_the_folder_lies(tmp_path):
    """A folder of prompts and pictures can be moved, and its job goes on."""
    digests = []
    for folder in (tmp_path / "here", tmp_path / "there" / "deep"):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "cat.png").touch()
        path = write(folder, "p.jsonl", lines({"prompt": "a", "image": "sub/cat.png"}, {"prompt": "a"}))
        source = source_of(path)
        digests.append([source.body_sha(entry) for entry in source.entries()])

    assert digests[0] == digests[1]
    assert digests[0][0] != digests[0][1]


def test_copies_have_bodies_of_their_own(tmp_path):
    """The copies of a row with a seed are different requests."""
    source = source_of(write(tmp_path, "p.jsonl", lines({"prompt": "a", "seed": 1})), repeat=3)

    assert 3 == len({source.body_sha(entry) for entry in source.entries()})


def test_passing_over_needs_no_memory(tmp_path):
    """A job that is nearly done is passed over without holding it."""
    path = write(tmp_path, "p.jsonl", lines(*({"prompt": "x" * 200, "id": number} for number in range(10_000))))
    source = source_of(path)
    tracemalloc.start()
    try:
        assert ["9999"] == [entry.key for entry in source.items({"9999"}.__contains__)]
        assert tracemalloc.get_traced_memory()[1] < 2**19
    finally:
        tracemalloc.stop()


FIELD_VALUES = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=20).filter(str.isprintable).filter(str.strip)},
    optional={
        "width": st.integers(16, 8192),
        "seed": st.integers(-1, 2**63 - 1),
        "guidance_scale": st.floats(0.5, 1000),
        "negative_prompt": st.text(max_size=20),
        "id": st.text(alphabet="abc#*1é", min_size=1, max_size=8),
        "extra": st.dictionaries(st.text(alphabet="xyz", min_size=1), st.none() | st.integers() | st.text()),
    },
)


@given(st.lists(FIELD_VALUES, min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rows):
    """Requests that are written down as JSON lines are the same when they are read."""
    requests = [ImageRequest.from_dict(MODEL | row) for row in rows]
    path = write(Path(tmp_path_factory.getbasetemp()), "p.jsonl", lines(*(request.to_dict() for request in requests)))

    assert requests == [entry.request for entry in read(path, defaults={})]
