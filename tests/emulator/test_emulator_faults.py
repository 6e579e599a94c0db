"""What goes wrong on purpose, and what the journal says it cost."""

import base64
import json

import httpx
import pytest

from nebula_async.emulator import Fault

FORMS = r"allowed is KIND\[=ARGUMENT\]:WHEN"


def _charges(rig):
    return [record.images_charged for record in rig.emulator.journal.generations]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("429:0.05", Fault(429, probability=0.05)),
        ("500:@2", Fault("500", at=2)),
        ("429=insufficient_quota:@4", Fault(429, "insufficient_quota", at=(4,))),
        ("delay=2.5:@3-7", Fault("delay", 2.5, at=range(3, 8))),
        ("drop:@3,9", Fault("drop", at=(3, 9))),
        ("refuse:1", Fault("refuse", probability=1)),
        ("cut:@1-2,5", Fault("cut", at=(range(1, 3), 5))),
        ("malformed=html:@1", Fault("malformed", "html", at=1)),
    ],
)
def test_a_fault_can_be_written_as_text(text, fault):
    """The form of the command line and the value of a test are the same fault, and the text is read back from it."""
    assert fault == Fault.parse(text)
    assert text == fault.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "429",
        "429:",
        "429:0",
        "429:1.5",
        "429:nan",
        "429:often",
        "200:@1",
        "600:@1",
        "429:@0",
        "429:@7-3",
        "429:@",
        "429:@a",
        "explode:@1",
        "delay:@1",
        "delay=soon:@1",
        "delay=-1:@1",
        "delay=inf:@1",
        "drop=2:@1",
        "malformed=xml:@1",
    ],
)
def test_a_bad_fault_names_itself_and_the_allowed_forms(text):
    """A fault that cannot be read is refused in one sentence with the spec and what is allowed."""
    with pytest.raises(ValueError, match=FORMS) as refused:
        Fault.parse(text)
    assert text in str(refused.value)


def test_a_fault_value_needs_a_when():
    """A fault in a test needs request numbers or a probability, not both and not neither."""
    with pytest.raises(ValueError, match=FORMS):
        Fault(500)
    with pytest.raises(ValueError, match=FORMS):
        Fault(500, at=1, probability=0.5)


def test_a_status_is_sent_at_its_number(start):
    """A numbered status meets that request alone, in the platform's envelope, and nothing is billed."""
    rig = start(faults=["503:@2"])
    replies = [rig.ask() for _ in range(3)]
    assert [200, 503, 200] == [reply.status_code for reply in replies]
    assert {"status": "failed", "message": "Service Unavailable", "data": None} == replies[1].json()
    assert [1, 0, 1] == _charges(rig)
    assert [None, "503", None] == [record.fault for record in rig.emulator.journal.generations]


@pytest.mark.parametrize("dialect", ["ask", "infer"])
@pytest.mark.parametrize(
    ("fault", "message", "details"),
    [
        ("429=insufficient_quota", "Not enough credits or quota", {}),
        ("500=invalid_size", "Requested size not supported", {}),
        (
            "400=content_policy_violation",
            "Your request was rejected as it violates our content policy",
            {"reason": "Contains prohibited content"},
        ),
        ("418=out_of_tea", "I'm a Teapot", {}),
        ("599=beyond", "Error 599", {}),
    ],
)
def test_a_status_can_carry_an_error_code(start, dialect, fault, message, details):
    """With an argument, a status comes in the envelope that has an error code, as documented for that code."""
    rig = start(faults=f"{fault}:@1")
    reply = getattr(rig, dialect)()
    status, _, code = fault.partition("=")
    assert int(status) == reply.status_code
    assert {"status": "error", "error": {"code": code, "message": message, "details": details}} == reply.json()
    assert [0] == _charges(rig)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "invalid_request", "Invalid request"),
        (401, "unauthorized", "Missing or invalid API key"),
        (402, "insufficient_quota", "Not enough credits or quota"),
        (403, "invalid_request", "Forbidden"),
        (404, "model_not_found", "Model not found"),
        (429, "rate_limit_exceeded", "Too many requests"),
        (500, "server_error", "Internal server error"),
        (503, "server_error", "Service Unavailable"),
    ],
)
def test_a_status_comes_in_the_envelope_of_dialect_b(start, status, code, message):
    """Asked in dialect B, a status without an argument comes with the error code that fits it, and its headers."""
    reply = start(faults=[Fault(status, at=1, headers={"Retry-After": "7"})]).infer()
    assert (status, "7") == (reply.status_code, reply.headers["retry-after"])
    assert {"status": "error", "error": {"code": code, "message": message, "details": {}}} == reply.json()


@pytest.mark.parametrize("dialect", ["ask", "infer"])
def test_a_502_is_a_web_page(start, dialect):
    """A gateway's 502 is HTML, as gateways send it."""
    reply = getattr(start(faults="502:@1"), dialect)()
    assert (502, "text/html; charset=utf-8") == (reply.status_code, reply.headers["content-type"])


def test_a_status_can_be_scripted_whole(start):
    """A test decides body and headers of a status, and whether its work was billed."""
    fault = Fault(503, at=1, body=b"later", headers={"Retry-After": "7"}, billed=True)
    rig = start(faults=[fault])
    reply = rig.ask()
    assert (503, b"later", "7") == (reply.status_code, reply.content, reply.headers["retry-after"])
    assert [1] == _charges(rig)


@pytest.mark.parametrize("dialect", ["ask", "infer"])
def test_a_dropped_reply_is_billed(start, dialect):
    """`drop` makes and bills the picture and ends the connection without a byte."""
    rig = start(faults="drop:@1")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        getattr(rig, dialect)()
    assert [1] == _charges(rig)
    assert [None] == [record.status for record in rig.emulator.journal.generations]
    assert 200 == rig.ask().status_code


@pytest.mark.parametrize("dialect", ["ask", "infer"])
def test_a_refused_connection_is_not_billed(start, dialect):
    """`refuse` ends the connection before any work."""
    rig = start(faults="refuse:@1")
    with pytest.raises(httpx.TransportError):
        getattr(rig, dialect)()
    assert [0] == _charges(rig)


@pytest.mark.parametrize("size", [16, 700])
def test_a_cut_reply_ends_about_half_way(start, size):
    """`cut` bills the picture and sends the whole length but half of the body."""
    rig = start(faults="cut:@1")
    received = []
    request = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "x", "width": size, "height": size}
    with (
        rig.http.stream("POST", "/images/generation", json=request) as reply,
        pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"),
    ):
        received.extend(reply.iter_raw())
    assert int(reply.headers["content-length"]) // 2 == sum(map(len, received))
    assert [1] == _charges(rig)


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_a_cut_reply_of_dialect_b_is_billed(start, response_format):
    """`cut` ends a reply of dialect B half-way, too, whichever way its picture comes."""
    rig = start(faults="cut:@1")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        rig.infer(response_format=response_format)
    assert [1] == _charges(rig)


def test_a_malformed_reply_of_dialect_b_is_billed(start):
    """`malformed` spoils base64 in dialect B as it does in A: each picture of the reply, in its usual shape."""
    rig = start(faults=["malformed:@1", "malformed=base64:@2", "malformed=html:@3"])
    plain, garbled, page = (rig.infer(response_format="b64_json", n=2) for _ in range(3))
    assert [200] * 3 == [plain.status_code, garbled.status_code, page.status_code]
    with pytest.raises(json.JSONDecodeError):
        plain.json()
    for image in garbled.json()["data"]["images"]:
        with pytest.raises(ValueError, match=r"base64|alphabet|padding"):
            base64.b64decode(image["b64_json"], validate=True)
    for image in page.json()["data"]["images"]:
        assert base64.b64decode(image["b64_json"]).startswith(b"<html>")
    assert [2, 2, 2] == _charges(rig)


def test_a_malformed_url_is_billed(start):
    """Where pictures come by URL, `malformed` gives no JSON, no URL, or a URL that shows a web page."""
    rig = start(faults=["malformed:@1", "malformed=base64:@2", "malformed=html:@3"])
    plain, empty, page = (rig.infer() for _ in range(3))
    with pytest.raises(json.JSONDecodeError):
        plain.json()
    assert [{"url": None, "b64_json": None}] == empty.json()["data"]["images"]
    shown = rig.stranger.get(page.json()["data"]["images"][0]["url"])
    assert (200, "text/html; charset=utf-8") == (shown.status_code, shown.headers["content-type"])
    assert shown.text.startswith("<html>")
    assert [1, 1, 1] == _charges(rig)


def test_faults_number_both_dialects_together(start):
    """A numbered fault meets that request, whichever dialect it is in and by whichever path and method it comes."""
    rig = start(faults="503:@2,4")
    doubled = rig.emulator.base_url + "/api/v1/images/generation"
    body = {"model": "dall-e-3", "prompt": "x", "width": 8, "height": 8}
    replies = [
        rig.infer(),
        rig.ask(),
        rig.http.request("GET", "/images/generation", json=body),
        rig.http.post(doubled, json=body),
        rig.infer(),
    ]
    assert [200, 503, 400, 503, 200] == [reply.status_code for reply in replies]


def test_a_malformed_reply_is_billed(start):
    """`malformed` is a billed 200 that no client can use: no JSON, no base64, or a web page for a picture."""
    rig = start(faults=["malformed:@1", "malformed=base64:@2", "malformed=html:@3"])
    plain, garbled, page = (rig.ask() for _ in range(3))
    assert [200] * 3 == [plain.status_code, garbled.status_code, page.status_code]
    with pytest.raises(json.JSONDecodeError):
        plain.json()
    with pytest.raises(ValueError, match=r"base64|alphabet|padding"):
        base64.b64decode(garbled.json()["data"][0]["b64_json"], validate=True)
    assert base64.b64decode(page.json()["data"][0]["b64_json"]).startswith(b"<html>")
    assert [1, 1, 1] == _charges(rig)


@pytest.mark.parametrize(
    "request_",
    [
        ("/api/v1/images/generation", {"model": "black-forest-labs/FLUX.1-schnell", "width": 8, "height": 8}),
        ("/v1/images/generate", {"model": "sdxl", "size": "8x8"}),
    ],
    ids=["A", "B"],
)
def test_a_delayed_reply_is_billed_before_it_comes(start, request_):
    """`delay` keeps a finished reply back: a client that gives up has paid, and the journal shows it."""
    rig = start(faults="delay=60:@1")
    path, fields = request_
    with pytest.raises(httpx.ReadTimeout):
        rig.http.post(httpx.URL(rig.emulator.base_url).copy_with(path=path), json=fields | {"prompt": "x"}, timeout=2)
    assert [1] == _charges(rig)
    assert ["delay"] == [record.fault for record in rig.emulator.journal.generations]


def test_delays_combine_and_of_the_others_the_first_wins(start):
    """Several faults may meet one request: delays add up with one other, the first that fires."""
    rig = start(faults=["delay=0.001:@1", "500:@1", "drop:@1"])
    assert 500 == rig.ask().status_code
    assert ["delay+500"] == [record.fault for record in rig.emulator.journal.generations]


def test_chance_follows_the_seed(start):
    """Faults by probability strike about as often as said, and the same requests for the same seed."""
    first, second, other = (
        start(faults="500:0.3", seed=1),
        start(faults="500:0.3", seed=1),
        start(faults="500:0.3", seed=2),
    )
    runs = [[rig.ask().status_code for _ in range(100)] for rig in (first, second, other)]
    assert runs[0] == runs[1] != runs[2]
    assert 15 <= runs[0].count(500) <= 45


def test_faults_start_again_after_a_reset(start):
    """After a reset, numbers and chances begin as at the start."""
    rig = start(faults=["500:0.3", "503:@2"])
    before = [rig.ask().status_code for _ in range(20)]
    rig.emulator.reset()
    assert before == [rig.ask().status_code for _ in range(20)]


def test_faults_meet_only_requests_for_pictures(start):
    """Reading models and credit is never disturbed, and does not move the request numbers."""
    rig = start(faults="500:@1")
    assert 200 == rig.http.get("/users/credits").status_code
    assert [500, 200] == [rig.ask().status_code for _ in range(2)]


def test_a_fault_does_not_use_up_the_rate(start, clock):
    """A status that is injected comes before the limits are counted."""
    rig = start(faults="500:@1-5", per_minute=1, clock=clock)
    assert [500] * 5 + [200, 429] == [rig.ask().status_code for _ in range(7)]


def test_broken_connections_make_no_noise(start, capfd):
    """Connections broken on purpose leave nothing on stdout or stderr."""
    rig = start(faults=["drop:@1", "refuse:@2", "cut:@3"])
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            rig.ask()
    assert 200 == rig.ask().status_code
    assert ("", "") == capfd.readouterr()
