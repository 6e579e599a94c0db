"""The journal: what was asked, what was answered, what was charged."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal

import pytest
from PIL import Image

from nebula_async.emulator import Fault, Journal, RequestRecord
from nebula_async.emulator import journal as journal_module

FILL = "black-forest-labs/FLUX.1-Fill-dev"


def test_a_request_is_recorded_with_all_that_matters(start, clock):
    """A record says when, what, with which seed and size, with what result, and at what price."""
    rig = start(clock=clock)
    rig.http.get("/users/credits")
    rig.ask(seed=42)
    credit, picture = rig.emulator.journal.requests
    assert (1, "GET", "/api/v1/users/credits", 200) == (credit.number, credit.method, credit.path, credit.status)
    expected = RequestRecord(
        number=2,
        at=clock.now,
        method="POST",
        path="/api/v1/images/generation",
        connection=picture.connection,
        status=200,
        model="black-forest-labs/FLUX.1-schnell",
        prompt="a flying cat",
        seed=42,
        width=16,
        height=16,
        images_charged=1,
        cost=Decimal("0.0019"),
        fields={
            "model": "black-forest-labs/FLUX.1-schnell",
            "prompt": "a flying cat",
            "width": 16,
            "height": 16,
            "seed": 42,
        },
        authorized=True,
    )
    assert expected == picture
    assert (picture,) == rig.emulator.journal.generations
    assert (1, Decimal("0.0019")) == (rig.emulator.journal.charged, rig.emulator.journal.spent)


def test_refused_requests_are_recorded_without_a_charge(rig):
    """Every refusal stands in the journal with its status, and cost nothing."""
    rig.ask(model="nobody/knows")
    rig.ask(width=0)
    rig.http.get("/nothing")
    assert [(400, 0), (422, 0), (404, 0)] == [(r.status, r.images_charged) for r in rig.emulator.journal.requests]
    assert Decimal(0) == rig.emulator.journal.spent


def test_the_journal_keeps_no_key_and_no_picture(rig, encode):
    """Keys are never kept, and pictures only by their length and SHA-256."""
    image = encode(Image.new("RGB", (64, 64), "navy"))
    rig.ask(model=FILL, image=image)
    shown = str(rig.emulator.journal.as_dict())
    assert rig.emulator.key not in shown
    assert image not in shown
    digest = hashlib.sha256(image.encode()).hexdigest()
    assert {"length": len(image), "sha256": digest} == rig.emulator.journal.generations[0].fields["image"]


def test_records_cannot_be_changed(rig):
    """What a test reads from the journal is frozen, fields included."""
    rig.ask()
    (record,) = rig.emulator.journal.requests
    with pytest.raises(AttributeError):
        record.status = 500
    assert isinstance(record.fields, Mapping)
    with pytest.raises(TypeError):
        record.fields["prompt"] = "other"


@pytest.mark.parametrize(
    ("method", "path", "origin", "expected"),
    [
        ("POST", "/api/v1/images/generation", "api", True),
        ("GET", "/api/v1/images/generation", "api", True),
        ("POST", "/api/v1/api/v1/images/generation", "api", True),
        ("GET", "/api/v1/api/v1/images/generation", "api", True),
        ("POST", "/v1/images/generate", "api", True),
        ("GET", "/v1/images/generate", "api", False),
        ("HEAD", "/api/v1/images/generation", "api", False),
        ("HEAD", "/v1/images/generate", "api", False),
        ("OPTIONS", "/api/v1/images/generation", "api", False),
        ("POST", "/v1/images/generation", "api", False),
        ("POST", "/api/v1/images/generate", "api", False),
        ("GET", "/api/v1/users/credits", "api", False),
        ("POST", "/v1/images/generate", "storage", False),
        ("POST", "/api/v1/images/generation", "storage", False),
        ("GET", "/generated/a.png", "storage", False),
    ],
)
def test_what_asks_for_pictures_is_told_from_what_does_not(method, path, origin, expected):
    """Requests for pictures are those of dialect A by POST and GET, its doubled path, and dialect B by POST."""
    record = RequestRecord(number=1, at=0.0, method=method, path=path, connection=1, origin=origin)
    assert expected == record.is_generation


def test_every_reply_names_its_record(start):
    """Each reply carries the number of its record as a request id, whatever it says, so that both can be matched."""
    rig = start(faults=["503:@2", "502:@3"])
    replies = [
        rig.ask(),
        rig.infer(),
        rig.infer(),
        rig.infer(n=0),
        rig.ask(width=0),
        rig.http.get("/users/credits"),
        rig.http.get("/nothing"),
        rig.http.head("/images/generation"),
        rig.stranger.post(f"{rig.emulator.inference_url}/images/generate"),
        rig.stranger.get(rig.urls()[0]),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert [f"emulator-{number}" for number in (*range(1, 10), 11)] == ids
    statuses = {f"emulator-{record.number}": record.status for record in rig.emulator.journal.requests}
    assert [reply.status_code for reply in replies] == [statuses[name] for name in ids]


def test_a_fault_can_give_another_request_id(start):
    """A request id that a fault was given stands alone."""
    rig = start(faults=[Fault(503, at=1, headers={"x-request-id": "mine"})])
    assert ["mine"] == rig.ask().headers.get_list("x-request-id")


def test_a_strange_size_is_not_recorded_as_one(rig):
    """What is no whole number of pixels stands among the fields only."""
    rig.ask(width=True, height="16")
    rig.ask(width=8.0, height=10**30)
    rig.infer(size="big")
    sizes = [(record.width, record.height) for record in rig.emulator.journal.generations]
    assert [(None, None), (8, 10**30), (None, None)] == sizes
    assert {"width": True, "height": "16"}.items() <= rig.emulator.journal.requests[0].fields.items()


def test_a_number_that_json_does_not_have_is_kept_as_text(rig):
    """The journal remains valid JSON, whatever numbers were sent."""
    body = b'{"model": "x", "prompt": "x", "seed": NaN, "width": 1e999, "height": -Infinity, "guidance_scale": 0.5}'
    rig.http.post("/images/generation", content=body)
    (record,) = rig.emulator.journal.requests
    kept = [record.fields[name] for name in ("seed", "width", "height", "guidance_scale")]
    assert ["nan", "inf", "-inf", 0.5] == kept


def test_wrongly_typed_names_are_not_recorded_as_text(rig):
    """A model or prompt that is no text stands among the fields only."""
    rig.ask(model=7, prompt=["x"])
    rig.infer(model={"id": "sdxl"}, prompt=3)
    assert [(None, None)] * 2 == [(record.model, record.prompt) for record in rig.emulator.journal.generations]


def test_idempotency_keys_and_connections_are_recorded(rig):
    """A test can see which key a request carried and which requests shared a connection."""
    rig.http.headers["Idempotency-Key"] = "abc-1"
    rig.ask()
    del rig.http.headers["Idempotency-Key"]
    rig.ask()
    first, second = rig.emulator.journal.generations
    assert ("abc-1", None) == (first.idempotency_key, second.idempotency_key)
    assert first.connection == second.connection > 0


def test_an_overlong_field_is_kept_by_its_measure(rig):
    """A text beyond 20,000 characters is kept by length and SHA-256, so that the journal stays small."""
    rig.ask(prompt="x" * 20_001)
    (record,) = rig.emulator.journal.generations
    assert record.prompt is None
    assert 20_001 == record.fields["prompt"]["length"]


def test_a_flood_of_fields_is_not_kept(rig):
    """Of a request with very many fields the journal keeps the first hundred."""
    rig.ask(**{f"field{number}": number for number in range(1000)})
    (record,) = rig.emulator.journal.generations
    assert (200, 100) == (record.status, len(record.fields))


def test_a_reset_goes_back_to_the_start(start, clock):
    """After a reset the journal is empty, numbers start at 1, and credit and limits are whole again."""
    rig = start(per_minute=1, credit="0.0119", clock=clock)
    assert [200, 429] == [rig.ask().status_code for _ in range(2)]
    journal = rig.emulator.journal
    rig.emulator.reset()
    assert ((), 0, Decimal(0)) == (journal.requests, journal.charged, journal.spent)
    assert "0.01190" == rig.http.get("/users/credits").json()["data"]["available_balance"]
    assert 200 == rig.ask().status_code
    assert [1, 2] == [record.number for record in journal.requests]


def test_old_records_leave_but_totals_stay_exact(monkeypatch):
    """A long run keeps the newest records only, and still counts every charge."""
    monkeypatch.setattr(journal_module, "KEPT_RECORDS", 10)
    journal = Journal()
    for _ in range(25):
        entry = journal.open(at=0.0, method="POST", path="/", connection=1, idempotency_key=None)
        entry.charge(1, Decimal("0.0019"))
    assert [*range(16, 26)] == [record.number for record in journal.requests]
    assert (25, Decimal("0.0475")) == (journal.charged, journal.spent)


def test_a_request_in_flight_at_a_reset_is_forgotten():
    """What a request of before the reset is charged afterwards does not appear in the new journal."""
    journal = Journal()
    entry = journal.open(at=0.0, method="POST", path="/", connection=1, idempotency_key=None)
    journal.clear()
    entry.charge(1, Decimal(1))
    entry.note(status=200)
    assert ((), 0) == (journal.requests, journal.charged)
