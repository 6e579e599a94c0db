"""Settings are checked when they are made, and stay as they are."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from traceback import TracebackException

import httpx
import pytest
from attrs import evolve, fields
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.config import TIERS, Config, RetryPolicy, Tier, Timeouts
from nebula_async.errors import ConfigurationError

NO_NUMBER = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    "10",
    None,
    -1,
    -0.0,
    1j,
    [1],
    pytest.param(10**5000, id="5000 digits"),
]


def refusal(make, *arguments, **fields_given) -> str:
    """Return the message with which a value is refused."""
    with pytest.raises(ConfigurationError) as caught:
        make(*arguments, **fields_given)
    return str(caught.value)


def test_the_defaults_are_the_documented_ones():
    """Without settings the documented API is used, with no tier and a choice of seed."""
    config = Config()
    assert "https://api.nebulablock.com/api/v1" == config.base_url
    assert ("https://api.inference.nebulablock.com/v1", ()) == (config.inference_url, config.allowed_image_hosts)
    assert ("model", "off", "warn", True) == (
        config.model_field, config.idempotency, config.parameter_rules, config.choose_seed,
    )  # fmt: skip
    assert (None, None) == (config.per_minute, config.concurrency)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.nebulablock.com/api/v1",
        "HTTPS://API.example:8443/v1",
        "https://[2001:db8::1]/v1",
        "http://localhost:8000/api/v1",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://[::1]:8000",
    ],
)
@pytest.mark.parametrize("name", ["base_url", "inference_url"])
def test_a_base_url_is_https_or_on_this_machine(name, url):
    """Any https address is accepted, and plain http to this machine (B4)."""
    assert url == getattr(Config(**{name: url}), name)
    assert httpx.URL(url).host


@pytest.mark.parametrize("name", ["base_url", "inference_url"])
@pytest.mark.parametrize("given_url", ["https://a.example/v1/", "https://a.example/v1//"])
def test_a_slash_at_the_end_does_not_matter(name, given_url):
    """A base URL with a slash at its end means the one without."""
    assert "https://a.example/v1" == getattr(Config(**{name: given_url}), name)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "must begin with https:// and a host"),
        ("api.example/v1", "must begin with https:// and a host"),
        ("ftp://api.example", "must begin with https:// and a host"),
        ("https://", "must begin with https:// and a host"),
        ("https:///v1", "must begin with https:// and a host"),
        ("https://:443/v1", "must begin with https:// and a host"),
        ("https://a.example:0", "must begin with https:// and a host"),
        ("https://a.example:99999", "is no URL"),
        ("https://a.example:x", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://[evil]/", "is no URL"),
        ("http://api.example/v1", "the key would travel in clear"),
        ("http://localhost.evil.example", "the key would travel in clear"),
        ("http://10.0.0.1", "the key would travel in clear"),
        ("http://0.0.0.0", "the key would travel in clear"),
        ("http://2130706433", "the key would travel in clear"),
        ("http://127.1", "the key would travel in clear"),
        ("https://user@a.example", "must have no user name"),
        ("https://@a.example", "must have no user name"),
        ("https://a.example/v1?x=1", "must have no query or fragment"),
        ("https://a.example/v1?", "must have no query or fragment"),
        ("https://a.example/v1#x", "must have no query or fragment"),
        ("https://a.example/v1#", "must have no query or fragment"),
        ("http://127.0.0.1\\@evil/", "must have no backslash"),
        ("https://a.example/ v1", "must have no backslash, blank"),
        ("https://a.example/v1\n", "must have no backslash, blank, control"),
        ("https://a.example/\u200bv1", "non-ASCII"),
        ("https://b\u00fccher.example", "non-ASCII"),
        ("http://\uff11\uff12\uff17.0.0.1", "non-ASCII"),
        ("https://a.example/" + "x" * 8192, "must have at most 8192 characters"),
        (None, "must be text"),
        (b"https://a.example", "must be text"),
        (httpx.URL("https://a.example"), "must be text"),
    ],
)
@pytest.mark.parametrize("name", ["base_url", "inference_url"])
def test_any_other_base_url_is_refused(name, url, problem):
    """What is no plain https address is refused, naming the field and what is wrong with it, in one short line (B4,
    B5).
    """
    message = refusal(Config, **{name: url})
    assert message.startswith(f"{name} ")
    assert problem in message
    assert len(message) < 250


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@a.example", "https://me:hun/ter2@a.example:x", "https://a.example?key=hunter2"]
)
@pytest.mark.parametrize("name", ["base_url", "inference_url"])
def test_a_secret_in_a_refused_url_is_not_shown(name, url):
    """A password or key that was put into a URL does not appear in the message that refuses it."""
    assert "ter2" not in refusal(Config, **{name: url})


@given(st.text("http:/@.#?[]\\ae1%7\u00e9\t", max_size=20))
def test_an_accepted_url_goes_where_it_says(tail):
    """Whatever text is given, one that is accepted means the same host to the HTTP library (B5)."""
    try:
        url = Config(base_url="https://a.example" + tail).base_url
    except ConfigurationError:
        return
    assert httpx.URL(url).host.startswith("a.example")
    assert not httpx.URL(url).userinfo


HOSTS = [
    "pictures.example:443",
    "127.0.0.1:8000",
    "localhost:1",
    "[::1]:8000",
    "[2001:db8::1]:65535",
    "minio:9000",
    "a-b.c_d.example:80",
    "10.0.0.1:9000",
]


WHICH = pytest.mark.parametrize("which", ["allowed_image_hosts", "public_image_hosts"])


@WHICH
@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_pictures_may_come_from_is_a_host_and_its_port(which, host):
    """Machines that pictures may be fetched from are named exactly, host and port."""
    assert (host,) == getattr(Config(**{which: [host]}), which)


@WHICH
@pytest.mark.parametrize("make", [list, tuple, iter, dict.fromkeys])
def test_allowed_hosts_come_in_any_list(which, make):
    """Whatever they are listed in, the hosts are kept in their order, and settings with them are pickled."""
    config = Config(**{which: make(HOSTS)})
    assert tuple(HOSTS) == getattr(config, which)
    assert config == pickle.loads(pickle.dumps(config)) == evolve(config)  # noqa: S301 - our own bytes


@WHICH
@pytest.mark.parametrize(
    "host",
    [
        "pictures.example", "pictures.example:", ":443", "", " ", "*", "*:443 ", "pictures.example:0",
        "pictures.example:65536", "pictures.example:x", "pictures.example:-1", "pictures.example:0443",
        "pictures.example:+443", "Pictures.example:443", "https://pictures.example", "https://pictures.example:443",
        "pictures.example:443/", "pictures.example:443/x", "pictures.example:443?x", "pictures.example:443#x",
        "me@pictures.example:443", "me:pw@pictures.example:443", "pictures.example:443 ", " pictures.example:443",
        "pictures.example:443\n", "pictures.example\\:443", "b\u00fccher.example:443", "pictures.example:\u0664",
        "::1", "::1:8000", "[::1]", "[::1", "::1]:8000", "[evil]:80", "x" * 9000 + ":443",
        None, 5, b"pictures.example:443", ("pictures.example", 443),
    ],
    ids=lambda host: ascii(host)[:30],
)  # fmt: skip
def test_any_other_host_is_refused(which, host):
    """What is not exactly a host and a port allows nothing: it is refused, and shown unless it may hold a secret."""
    message = refusal(Config, **{which: [HOSTS[0], host]})
    assert ":pw@" not in message
    assert message.startswith(f"{which} must be a list of host:port; got ")
    assert len(message) < 200


@WHICH
@pytest.mark.parametrize("hosts", [5, "pictures.example:443", b"pictures.example:443", True])
def test_allowed_hosts_are_a_list(which, hosts):
    """One host alone, without a list around it, is refused instead of being taken letter by letter."""
    assert refusal(Config, **{which: hosts}).startswith(f"{which} must be a list of host:port; got ")


def test_none_is_any_public_host_and_no_other():
    """`None` is not the same for both: any public host, and a mistake."""
    assert Config().public_image_hosts is Config(public_image_hosts=None).public_image_hosts is None
    assert "must be a list of host:port; got None" in refusal(Config, allowed_image_hosts=None)


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
@pytest.mark.parametrize("value", [*NO_NUMBER, 0, 86_401])
def test_timeouts_are_finite_and_above_zero(name, value):
    """A time limit that is no positive, finite number of seconds is refused; none can be switched off (B49)."""
    message = refusal(Timeouts, **{name: value})
    assert message.startswith(f"{name} must be a number above 0 and up to 86400; got ")


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
@pytest.mark.parametrize("value", [0.001, 1, 86_400])
def test_timeouts_in_range_are_kept(name, value):
    """Each time limit takes whole and broken seconds, up to a day."""
    assert value == getattr(Timeouts(**{name: value}), name)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("attempts", "a whole number from 1 to 100"),
        ("resend_unknown", "a whole number from 0 to 100"),
        ("longest_delay", "a number from 0 to 86400"),
        ("backoff", "a number from 0 to 100"),
        ("budget", "a number from 0 to 1000000"),
    ],
)
@pytest.mark.parametrize("value", [*NO_NUMBER, 10**9])
def test_retry_policies_are_in_range(name, allowed, value):
    """A retry policy that cannot be meant is refused, naming the field and what is allowed (B49)."""
    assert refusal(RetryPolicy, **{name: value}).startswith(f"{name} must be {allowed}; got ")


@pytest.mark.parametrize("name", ["attempts", "resend_unknown"])
def test_counts_are_whole(name):
    """A count of 2.0 is refused: it would be a surprise in every message that prints it."""
    assert "got 2.0 (float)" in refusal(RetryPolicy, **{name: 2.0})


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("concurrency", [0, -1, 10_001, 10**6, 1.5, True, "8"], "a whole number from 1 to 10000"),
        ("rate_limit", [0, -1, 1e-9, 1e7, math.nan, math.inf, True, "60"], "a number from 0.01666666667 to 1000000"),
        ("model_field", ["modelname", "", None, 1], "one of model, model_name"),
        ("idempotency", ["on", True, None], "one of off, replay, unknown"),
        ("idempotency_form", ["plain", False, None], "one of bare, quoted"),
        ("parameter_rules", ["error", False, None], "one of off, strict, warn"),
        ("choose_seed", [1, 0, "no", None], "True or False"),
        ("retry", [3, None, {"attempts": 3}], "RetryPolicy"),
    ],
)
def test_settings_out_of_range_are_refused(name, values, allowed):
    """Each wrong setting is refused with its name, what is allowed and what was given (B50)."""
    for value in values:
        message = refusal(Config, **{name: value})
        assert message.startswith(f"{name} must be {allowed}; got ")
        assert repr(value) in message


def test_a_rate_may_be_as_low_as_one_an_hour():
    """The smallest rate is one request an hour (B50)."""
    assert 1 / 60 == Config(rate_limit=1 / 60).per_minute


@pytest.mark.parametrize("seconds", [30, 0.5])
def test_one_number_is_the_total(seconds):
    """A timeout given as a number is the limit for the whole call; the others keep their defaults."""
    assert Timeouts(total=seconds) == Config(timeouts=seconds).timeouts


@pytest.mark.parametrize("value", [None, "30", True, 0, math.nan])
def test_timeouts_cannot_be_switched_off(value):
    """A timeout of `None` is refused: every wait has a bound (B49)."""
    assert "total must be a number above 0" in refusal(Config, timeouts=value)


@pytest.mark.parametrize(
    ("name", "per_minute", "per_day"),
    [
        ("engineer-1", 60, 200),
        ("engineer-2", 300, 1_000),
        ("engineer-3", 600, 2_000),
        ("expert-1", 1_500, None),
        ("expert-2", 3_000, None),
    ],
)
def test_tiers_are_the_documented_ones(name, per_minute, per_day):
    """A tier is given by name, and has the documented limits."""
    config = Config(tier=name)
    assert (per_minute, per_day) == (config.tier.per_minute, config.tier.per_day)
    assert per_minute == config.per_minute


def test_there_are_no_other_tiers():
    """The table of tiers holds the five documented ones, each under its own name."""
    assert 5 == len(TIERS)
    assert all(name == tier.name for name, tier in TIERS.items())


def test_a_tier_of_ones_own():
    """Limits that are not in the table are given as a `Tier`."""
    tier = Tier("team", 10_000, 50_000)
    assert tier == Config(tier=tier).tier


def test_a_rate_limit_wins_over_the_tier():
    """A rate given as a number is used instead of the tier's."""
    assert 30 == Config(tier="expert-2", rate_limit=30).per_minute


@pytest.mark.parametrize("value", ["Engineer 1", "", "expert", 1, ["expert-1"], {}])
def test_an_unknown_tier_is_refused_with_the_known_ones(value):
    """A tier that does not exist is refused, and the message lists those that do."""
    message = refusal(Config, tier=value)
    assert all(name in message for name in TIERS)
    assert repr(value) in message


@pytest.mark.parametrize("arguments", [("", 60), (None, 60), ("x", 0), ("x", True), ("x", 60, 0), ("x", 60, 1.5)])
def test_a_tier_is_checked(arguments):
    """A tier of one's own has a name and limits in range."""
    assert " must be " in refusal(Tier, *arguments)


VARIABLES = {
    "NEBULA_BASE_URL": ("http://127.0.0.1:8000/", {"base_url": "http://127.0.0.1:8000"}),
    "NEBULA_INFERENCE_URL": ("http://127.0.0.1:8001/v1/", {"inference_url": "http://127.0.0.1:8001/v1"}),
    "NEBULA_TIER": ("expert-1", {"tier": "expert-1"}),
    "NEBULA_SHARED_BY": ("host", {"shared_by": "host"}),
    "NEBULA_TIMEOUT": ("12.5", {"timeouts": 12.5}),
    "NEBULA_ALLOWED_IMAGE_HOSTS": ("127.0.0.1:8002", {"allowed_image_hosts": ["127.0.0.1:8002"]}),
    "NEBULA_PUBLIC_IMAGE_HOSTS": ("a.example:443,b:1", {"public_image_hosts": ["a.example:443", "b:1"]}),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_changes_its_default(name, monkeypatch):
    """`from_env` reads each setting from its own variable, of the process or of a mapping, and changes no other."""
    text, settings = VARIABLES[name]
    assert Config(**settings) == Config.from_env({name: text}) != Config()
    monkeypatch.setenv(name, text)
    assert Config(**settings) == Config.from_env()


def test_the_environment_changes_the_defaults():
    """All variables together change all of their settings."""
    expected = {name: value for _, settings in VARIABLES.values() for name, value in settings.items()}
    assert Config(**expected) == Config.from_env({name: text for name, (text, _) in VARIABLES.items()})


def test_an_empty_environment_changes_nothing():
    """Without variables `from_env` gives the defaults."""
    assert Config() == Config.from_env({})
    assert Config() == Config.from_env()


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        (" , ,", ()),
        ("127.0.0.1:8000", ("127.0.0.1:8000",)),
        ("127.0.0.1:8000,[::1]:8000", ("127.0.0.1:8000", "[::1]:8000")),
        (" minio:9000 ,\tlocalhost:1\n,", ("minio:9000", "localhost:1")),
    ],
)
def test_allowed_hosts_are_separated_by_commas(text, hosts):
    """Several hosts stand in one variable with commas between them; blanks and empty ones do no harm."""
    assert hosts == Config.from_env({"NEBULA_ALLOWED_IMAGE_HOSTS": text}).allowed_image_hosts


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("NEBULA_TIMEOUT", "abc", "total must be a number above 0 and up to 86400; got 'abc'"),
        ("NEBULA_TIMEOUT", "", "got ''"),
        ("NEBULA_TIMEOUT", "-1", "got -1.0"),
        ("NEBULA_TIMEOUT", "0", "got 0.0"),
        ("NEBULA_TIMEOUT", "inf", "got inf"),
        ("NEBULA_TIMEOUT", "nan", "got nan"),
        ("NEBULA_TIMEOUT", "1e999", "got inf"),
        ("NEBULA_TIMEOUT", "30s", "got '30s'"),
        ("NEBULA_TIER", "expert", "tier must be one of engineer-1, "),
        ("NEBULA_TIER", "", "got ''"),
        ("NEBULA_BASE_URL", "", "base_url must begin with https://"),
        ("NEBULA_BASE_URL", "http://api.example", "base_url must begin with https://"),
        ("NEBULA_INFERENCE_URL", "", "inference_url must begin with https://"),
        ("NEBULA_INFERENCE_URL", "http://api.example", "inference_url must begin with https://"),
        ("NEBULA_INFERENCE_URL", "https://a.example/v1?x", "inference_url must have no query or fragment"),
        ("NEBULA_ALLOWED_IMAGE_HOSTS", "localhost", "allowed_image_hosts must be a list of host:port; got 'localhost'"),
        ("NEBULA_PUBLIC_IMAGE_HOSTS", "localhost", "public_image_hosts must be a list of host:port; got 'localhost'"),
        ("NEBULA_PUBLIC_IMAGE_HOSTS", " ,", "must name at least one host:port, or be None for any; got none"),
        ("NEBULA_ALLOWED_IMAGE_HOSTS", "a:1 b:2", "got 'a:1 b:2'"),
        ("NEBULA_ALLOWED_IMAGE_HOSTS", "a:1;b:2", "got 'a:1;b:2'"),
        ("NEBULA_ALLOWED_IMAGE_HOSTS", "a:1,http://b:2", "got 'http://b:2'"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variable, text, problem):
    """A setting from the environment that is wrong names the variable, what is allowed and what was given (B48)."""
    message = refusal(Config.from_env, {variable: text})
    assert message.startswith(f"environment variable {variable}: ")
    assert problem in message


@pytest.mark.parametrize(
    "fields_given", [{"tier": "none"}, {"timeouts": 0}, {"base_url": "x"}, {"allowed_image_hosts": 5}]
)
def test_a_refusal_can_be_reported_with_local_variables(fields_given):
    """A report that prints the variables of each frame can print the settings that are refused."""
    with pytest.raises(ConfigurationError) as caught:
        Config(**fields_given)
    assert TracebackException.from_exception(caught.value, capture_locals=True).stack


def test_settings_are_frozen():
    """A setting cannot be changed under a running client; a changed copy is made with `evolve`."""
    config = Config()
    with pytest.raises(FrozenInstanceError):
        config.concurrency = 3
    assert Config(concurrency=3) == evolve(config, concurrency=3)


def test_a_changed_copy_is_checked_too():
    """`evolve` refuses what the constructor refuses."""
    assert "concurrency" in refusal(evolve, Config(), concurrency=0)


def test_settings_are_compared_by_value_and_pickled():
    """Equal settings are equal, in this process and in another."""
    config = Config(tier="expert-1", timeouts=5, retry=RetryPolicy(attempts=1), concurrency=4)
    assert config == Config(tier="expert-1", timeouts=5, retry=RetryPolicy(attempts=1), concurrency=4)
    assert config == pickle.loads(pickle.dumps(config))  # noqa: S301 - our own bytes
    assert config != Config()


def test_help_does_not_show_the_environment(monkeypatch):
    """`help(Config)` shows no variable of whoever reads it, least of all the key."""
    monkeypatch.setenv("NEBULA_API_KEY", "sk-canary")
    code = "import nebula_async; help(nebula_async.Config); help(nebula_async.AsyncNebula)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "from_env" in done.stdout
    assert "sk-canary" not in done.stdout
