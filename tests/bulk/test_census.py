"""What a job is about is known before anything is sent: how many items, what for, and every line that is wrong."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.bulk.manifest.census import MOST_KEPT, Selection, rest_of, take_census
from nebula_async.bulk.manifest.draw import Draw
from nebula_async.bulk.manifest.repeats import SeenKeys
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.manifest.tally import MOST_PROBLEMS, Share
from nebula_async.errors import ConfigurationError, InvalidRequestError, JobError

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
MIB = 2**20


def source(folder, *rows, repeat=1, **defaults):
    """Return the items of these JSON lines; the model is schnell unless they say another one."""
    path = folder / "p.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    given = {"model": SCHNELL} | defaults
    return Source(path=path, name="p.jsonl", kind="jsonl", base=folder, defaults=given, columns={}, repeat=repeat)


def row(prompt, **given):
    """Return a row."""
    return {"prompt": prompt, **given}


def lines(census):
    """Return what is wrong as it is told."""
    return [str(bad) for bad in census.bad]


def test_items_pictures_and_pixels_are_counted_by_model(tmp_path):
    """Each model is listed with its API, the most asked first, with pictures and their size where it is given."""
    rows = [row("a", width=512, height=256), row("b", model=SDXL), row("c", model="sdxl", dialect="inference", n=3)]
    census = take_census(source(tmp_path, *rows, row("d"), row("e", extra={"num_images": 2}, height=16)))
    assert {
        ("serverless", SCHNELL): Share(3, 4, 512 * 256 + 1024 * 1024 + 2 * 1024 * 16),
        ("serverless", SDXL): Share(1, 1, 1024 * 1024),
        ("inference", "sdxl"): Share(1, 3, 3 * 1024 * 1024),
    } == census.models
    assert ("serverless", SCHNELL) == next(iter(census.models))
    assert (5, 8, {}, (), 0) == (census.total, census.pictures, census.settled, census.bad, census.bad_count)
    census.check("p.jsonl")


def test_a_size_of_the_inference_api_counts(tmp_path):
    """Its width and height are in one word."""
    census = take_census(source(tmp_path, row("a", dialect="inference", size="100x50")))
    assert [Share(1, 1, 5_000)] == list(census.models.values())


def test_the_same_request_under_the_same_id_is_one_item(tmp_path):
    """A row that is there twice is made once; the later ones are told by their numbers (B14)."""
    rows = [row("a", id="x"), row("b", id="y"), row("a", id="x"), row("c"), row("a", id="x"), row("c")]
    census = take_census(source(tmp_path, *rows))
    assert (4, frozenset({2, 4}), 0) == (census.total, census.repeated, census.bad_count)
    assert [Share(4, 4, 4 * 1024**2)] == list(census.models.values())


def test_another_request_under_the_same_id_is_a_line_to_mend(tmp_path):
    """Both lines are named, whatever else is wrong, in the order of lines (B14)."""
    rows = [row("a", id="x"), row(""), row("b", id="x"), row("a", id="y"), row("a", id="x", seed=3)]
    census = take_census(source(tmp_path, *rows))
    told = lines(census)
    assert (2, frozenset(), 3) == (census.total, census.repeated, census.bad_count)
    assert told[0].startswith("p.jsonl:2: prompt must be text")
    assert [
        f"p.jsonl:{line}: id 'x' was used for another request in line 1; give each one of its own" for line in (3, 5)
    ] == told[1:]


def test_copies_are_items_of_their_own(tmp_path):
    """A row that is repeated is so many items, and is wrong or there twice as a whole."""
    rows = [row("a", id="x", seed=1), row("a", id="x", seed=1), row(""), row("b", id="x", seed=1)]
    census = take_census(source(tmp_path, *rows, repeat=3))
    assert (3, frozenset({3, 4, 5}), 2) == (census.total, census.repeated, census.bad_count)
    assert [3, 4] == [bad.line for bad in census.bad]


def test_bad_lines_stop_a_job_with_all_that_matters(tmp_path):
    """The message says how many lines are to be mended and names the first of them."""
    census = take_census(source(tmp_path, *["{"] * 22, row("a")))
    with pytest.raises(JobError) as refused:
        census.check("p.jsonl")
    told = str(refused.value).split("\n")
    assert "p.jsonl cannot be used, nothing was sent; lines to mend: 22" == told[0]
    assert [f"  p.jsonl:{line}:" for line in range(1, 21)] == [line.rpartition(": Exp")[0] + ":" for line in told[1:21]]
    assert ["  … and 2 more"] == told[21:]


def test_a_picture_for_a_model_that_takes_none_is_a_line_to_mend(tmp_path):
    """It would be passed over at full price."""
    (tmp_path / "cat.png").write_bytes(b"")
    census = take_census(source(tmp_path, row("a", image="cat.png"), row("b")))
    assert (1, 1) == (census.total, census.bad_count)
    assert lines(census)[0].startswith(f"p.jsonl:1: {SCHNELL} makes pictures from text and takes no image;")


def test_what_a_model_will_not_honour_is_counted(tmp_path):
    """One sentence says for how many items it holds; of a model that is not known nothing is said."""
    rows = [row("a", model=SDXL, seed=1), row("b", model=SDXL, seed=2), row("c", model="x/y", seed=3), row("d", seed=4)]
    census = take_census(source(tmp_path, *rows))
    (problem,) = census.problems
    assert (True, 2) == (problem.startswith(f"{SDXL} does not honour seed;"), census.problems[problem])


def test_what_is_told_of_sizes_is_bounded(tmp_path):
    """A different mistake in every row fills neither the memory nor the screen."""
    fill = "black-forest-labs/FLUX.1-Fill-dev"
    rows = [row("a", model=fill, width=17 + 16 * (i // 500), height=17 + 16 * (i % 500)) for i in range(600)]
    rows += [row("a", model=fill, width=6_001 + 16 * i) for i in range(130)]
    rows += [row("a", model=fill, height=17 + 16 * i) for i in range(500)]
    assert len(take_census(source(tmp_path, *rows)).problems) <= MOST_PROBLEMS


@pytest.mark.parametrize("bad_at", [None, 1, 2])
def test_a_limit_is_about_the_first_entries(tmp_path, bad_at):
    """What comes after them is not looked at; a bad one among them counts as one."""
    rows = [row(f"{number}") for number in range(4)]
    if bad_at is not None:
        rows[bad_at] = "{"
    census = take_census(source(tmp_path, *rows), Selection(limit=2))
    assert {None: (2, 0), 1: (1, 1), 2: (2, 0)}[bad_at] == (census.total, census.bad_count)


def test_a_limit_counts_copies(tmp_path):
    """The third item of a list with three copies of each is the last copy of the first row."""
    census = take_census(source(tmp_path, row("a", id="x"), row("b"), "{", repeat=3), Selection(limit=4))
    assert (4, 0) == (census.total, census.bad_count)


def test_a_sample_is_drawn_by_key_and_counted_alone(tmp_path):
    """The same items are drawn wherever they stand; none twice; bad lines are found all the same."""
    rows = [row(f"{number}", id=f"k{number}", extra={"num_images": 2}) for number in range(50)]
    first = take_census(source(tmp_path, *rows), Selection(sample=5))
    second = take_census(source(tmp_path, "{", *reversed(rows), *rows), Selection(sample=5))
    assert first.chosen == second.chosen
    assert (5, 10, [Share(5, 10, 10 * 1024**2)]) == (first.total, first.pictures, list(first.models.values()))
    assert (5, 50, 1) == (second.total, len(second.repeated), second.bad_count)
    assert 5 == sum(first.selects(item) for item in source(tmp_path, *rows).items())
    few = take_census(source(tmp_path, *rows[:3]), Selection(sample=5))
    assert (3, frozenset({"k0", "k1", "k2"})) == (few.total, few.chosen)


def test_a_sample_of_the_first_items(tmp_path):
    """With a limit, only what is within it can be drawn."""
    census = take_census(source(tmp_path, *(row(str(number)) for number in range(9))), Selection(limit=3, sample=2))
    assert 2 == census.total
    assert census.chosen < {"#0", "#1", "#2"}


def test_what_is_settled_is_not_asked_for(tmp_path):
    """Items that an earlier run ended are part of the job, and not of what is to be sent."""
    rows = [row("a", id="x"), row("b"), row("a", id="x")]
    census = take_census(source(tmp_path, *rows), settled_as={"x": "done"}.get)
    assert (2, 2, {"done": 1}, [Share(1, 1, 1024**2)]) == (
        census.total,
        census.pictures,
        census.settled,
        list(census.models.values()),
    )


@pytest.mark.parametrize(("selection", "items"), [(Selection(), 3), (Selection(limit=3), 1), (Selection(sample=1), 1)])
def test_of_a_job_that_goes_on_only_the_rest_is_counted(tmp_path, selection, items):
    """What a run has still to send is known without another look at what is done, and is within what was selected."""
    rows = [row("a", id="x"), row("a", id="x"), row("b", id="y"), row("c", id="z"), row("d", model=SDXL, seed=1)]
    taken = take_census(source(tmp_path, *rows), selection)
    waiting = {"y", "z", "#4"} if selection.sample is None else taken.chosen
    rest = rest_of(taken, source(tmp_path, *rows), selection, is_waiting=waiting.__contains__, settled={"done": 1})
    assert (taken.total, {"done": 1}, items) == (
        rest.total,
        rest.settled,
        sum(share.items for share in rest.models.values()),
    )
    assert (("serverless", SDXL) in rest.models) == bool(rest.problems)


@pytest.mark.parametrize("count", [0, -1, 2.5, "3", True])
@pytest.mark.parametrize("name", ["limit", "sample"])
def test_a_selection_of_no_count_is_refused(name, count):
    """How many is a whole number above 0."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be a whole number from 1 to "):
        Selection(**{name: count})


def test_a_default_that_no_item_can_use_is_refused(tmp_path):
    """An option for the other API would be passed over in silence; with bad lines it is not yet known."""
    with pytest.raises(InvalidRequestError, match=r"^no line is for an API that has n: leave that out, or give a dial"):
        take_census(source(tmp_path, row("a"), n=3))
    assert 1 == take_census(source(tmp_path, row("a"), "{", n=3)).bad_count
    assert 2 == take_census(source(tmp_path, row("a"), row("b", dialect="inference"), n=3)).total


def test_a_list_without_end_of_mistakes_is_counted(tmp_path):
    """So many bad lines are kept, and all are counted."""
    census = take_census(source(tmp_path, *["{"] * (MOST_KEPT + 5)))
    assert (MOST_KEPT, MOST_KEPT + 5) == (len(census.bad), census.bad_count)


def test_memory_does_not_grow_with_the_list(tmp_path):
    """Ten thousand rows with ids of their own take no more than a few, but for the filter of keys (B52)."""
    many = source(tmp_path, *(row("a", id=f"cat-{number}") for number in range(10_000)))
    tracemalloc.start()
    try:
        assert 10_000 == take_census(many).total
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * MIB


def test_counting_costs_little_beyond_reading(tmp_path):
    """What is known of ten thousand rows costs less than reading them three times."""
    many = source(tmp_path, *(row("a", id=f"cat-{number}") for number in range(10_000)))

    def seconds(work):
        began = time.process_time()
        work()
        return time.process_time() - began

    reading = min(seconds(lambda: sum(1 for _ in many.entries())) for _ in range(2))
    assert min(seconds(lambda: take_census(many)) for _ in range(2)) < 3 * reading


@given(st.lists(st.text(max_size=3)), st.integers(1, 5))
def test_a_draw_depends_on_the_keys_alone(keys, size):
    """Neither their order nor how often each is shown matters."""
    one, other = Draw(size), Draw(size)
    for key in keys:
        one.show(key)
    for key in sorted({*keys}) + keys:
        other.show(key)
    assert one.keys == other.keys
    assert min(size, len({*keys})) == len(one.keys)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2))))
def test_no_repeat_is_missed(pairs):
    """Each later sighting of a key names the first one, and says whether it was the same."""
    seen, first = SeenKeys(), {}
    for key, _ in pairs:
        seen.add(key)
    sightings = seen.sightings()
    for line, (key, body) in enumerate(pairs, 1):
        expected = None if key not in first else (first[key][0], first[key][1] == body)
        first.setdefault(key, (line, body))
        found = sightings.see(key, line, f"{body:064x}"[::-1]) if sightings and sightings.is_doubted(key) else None
        assert expected == (None if found is None else (found.line, found.is_same))
