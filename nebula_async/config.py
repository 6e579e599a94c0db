"""Every default, once, in frozen values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from attrs import Attribute, evolve, field, frozen

from nebula_async.checks import Checks, shown
from nebula_async.errors import ConfigurationError
from nebula_async.keys import looks_like_key
from nebula_async.urls import PROXY_PROBLEM, host_and_port, is_loopback, is_proxy, read_url

VERSION = "0.1.0"

BASE_URL = "https://api.nebulablock.com/api/v1"
INFERENCE_URL = "https://api.inference.nebulablock.com/v1"


def _shown(value: object) -> str:
    """Return a form of a setting for a message: a key is easily exported under the wrong name, and is not shown."""
    return "what looks like a key, and is not shown" if looks_like_key(value) else shown(value)


check = Checks(ConfigurationError, show=_shown)

ModelField: TypeAlias = Literal["model", "model_name"]
Idempotency: TypeAlias = Literal["off", "unknown", "replay"]
IdempotencyForm: TypeAlias = Literal["quoted", "bare"]
ParameterRules: TypeAlias = Literal["warn", "strict", "off"]
SharedBy: TypeAlias = Literal["process", "host"]


@frozen
class Tier:
    """An account's documented limits: requests a minute, and a day (`None`: no daily limit; it resets at 00:00 UTC)."""

    name: str = field(validator=check.text(max_bytes=256))
    per_minute: float = field(validator=check.number(1 / 60, 1_000_000))
    per_day: int | None = field(default=None, validator=check.whole(1, 10**9, optional=True))


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("engineer-1", 60, 200),
        Tier("engineer-2", 300, 1_000),
        Tier("engineer-3", 600, 2_000),
        Tier("expert-1", 1_500),
        Tier("expert-2", 3_000),
    )
}
"""The documented tiers (rate-limit table of the API's overview page)."""


@frozen
class Timeouts:
    """Limits in seconds. `connect`, `write` and `read` are for one operation, `attempt` for one request and its reply.

    `total` spans the whole call: queueing, waits and all attempts. In `generate_many` and bulk jobs it starts when a
    worker takes the item, and stands still while the item queues for the rate limit.
    """

    connect: float = field(default=10.0, validator=check.number(0, 86_400, above=True))
    write: float = field(default=30.0, validator=check.number(0, 86_400, above=True))
    read: float = field(default=120.0, validator=check.number(0, 86_400, above=True))
    attempt: float = field(default=180.0, validator=check.number(0, 86_400, above=True))
    total: float = field(default=300.0, validator=check.number(0, 86_400, above=True))


@frozen
class RetryPolicy:
    """When a failed attempt is repeated.

    `attempts` bounds all attempts of a call. What may have been paid for is repeated at most `resend_unknown` times
    (0: never pay twice). A delay that the server asks for is honoured up to `longest_delay` seconds, else the error is
    raised at once with its `retry_after`. `backoff` scales the waits we choose ourselves; 0 takes them away.
    `budget` bounds what a failing service is burdened with, over all calls of a client: so many requests may be
    repeated ahead of its successes, each of which earns another tenth. Waiting for a rate limit costs nothing of it.
    """

    attempts: int = field(default=3, validator=check.whole(1, 100))
    resend_unknown: int = field(default=1, validator=check.whole(0, 100))
    longest_delay: float = field(default=120.0, validator=check.number(0, 86_400))
    backoff: float = field(default=1.0, validator=check.number(0, 100))
    budget: float = field(default=10.0, validator=check.number(0, 1_000_000))


# Converters do not refuse: a report of local variables could not show the value, half made. Validators come after them.


def _tier(given: Tier | str | None) -> Any:
    return next((tier for name, tier in TIERS.items() if name == given), given)


def _check_tier(_config: object, attribute: Attribute[Any], tier: object) -> None:
    if tier is not None and not isinstance(tier, Tier):
        allowed = f"one of {', '.join(TIERS)}, or a Tier"
        raise ConfigurationError(f"{attribute.name} must be {allowed}; got {_shown(tier)}")


def _timeouts(given: Timeouts | float) -> Any:
    try:
        return given if isinstance(given, Timeouts) else Timeouts(total=given)
    except ConfigurationError:
        return given


def _check_timeouts(_config: object, _attribute: Attribute[Any], timeouts: Any) -> None:
    if not isinstance(timeouts, Timeouts):
        Timeouts(total=timeouts)  # says what is wrong with it


def _without_slash(url: Any) -> Any:
    return url.rstrip("/") if isinstance(url, str) else url  # anything else is refused by the validator


def _check_url(_config: Any, attribute: Attribute[Any], url: object) -> None:
    problem = _url_problem(url) if isinstance(url, str) else "must be text"
    if problem:
        raise ConfigurationError(f"{attribute.name} {problem}; got {_shown_url(url)}")


def _shown_url(url: object) -> str:
    return "one that may hold a secret" if isinstance(url, str) and {*"@?#"} & {*url} else _shown(url)


def _url_problem(url: str) -> str | None:
    try:
        parts = read_url(url)
    except ValueError as error:
        return str(error)
    if "?" in url or "#" in url:
        return "must have no query or fragment"
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return "must begin with https://: the key would travel in clear (plain http only to this machine)"
    return None


def _hosts(given: Any) -> Any:
    is_list = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    return tuple(given) if is_list else given  # anything else is refused by the validator


def _check_hosts(_config: object, attribute: Attribute[Any], hosts: object) -> None:
    wrong = [host for host in hosts if not _is_host(host)] if isinstance(hosts, tuple) else [hosts]
    if wrong:
        raise ConfigurationError(f"{attribute.name} must be a list of host:port; got {_shown_url(wrong[0])}")


def _check_public_hosts(config: object, attribute: Attribute[Any], hosts: object) -> None:
    if hosts == ():  # every picture would be paid for, and refused
        raise ConfigurationError(f"{attribute.name} must name at least one host:port, or be None for any; got none")
    if hosts is not None:
        _check_hosts(config, attribute, hosts)


def _is_host(given: object) -> bool:
    """Whether it is `host:port`, exactly as the host and port of a URL are written."""
    try:
        return isinstance(given, str) and host_and_port(read_url(f"https://{given}/")) == given
    except ValueError:
        return False


def _check_proxy(_config: object, attribute: Attribute[Any], url: object) -> None:
    if url is not None and not (isinstance(url, str) and is_proxy(url)):
        raise ConfigurationError(f"{attribute.name} {PROXY_PROBLEM}")


def _without_user(url: str | None) -> str:
    """Return how a proxy's URL is shown: who is let in is a secret."""
    scheme, _, rest = (url or "").partition("://")
    user, _, place = rest.rpartition("@")
    return repr(f"{scheme}://***@{place}" if user else url)


@frozen(kw_only=True)
class Config:
    """How a client behaves. Frozen, comparable, picklable; holds no key.

    - `base_url`: the serverless API up to and with `/api/v1`; plain http only to this machine
    - `inference_url`: the inference API up to and with `/v1`; the key is sent to these two and nowhere else
    - `model_field`: "model", or "model_name" as servers before 2025-02-26 were documented
    - `tier`, `rate_limit`: the account's limit, by name or in requests a minute; without either, 429s teach it
    - `shared_by`: who keeps to that limit together, holds after refusals and the count of the day included: the clients
      of a "process", or all processes of the "host" that have this key, these two URLs and "host" here. They meet in a
      file of this user below `NEBULA_STATE_DIR` (else `XDG_STATE_HOME`, else `~/.local/state`) that holds a digest of
      the key, and nothing else of it; if they were given different limits, the lowest counts. A client with a transport
      of its own shares with nobody
    - `concurrency`: requests in flight, of each process; `None` derives it from the limit (8 to 256; 16 without one)
    - `idempotency`: whether an `Idempotency-Key` is sent ("off"), sent ("unknown"), sent and trusted ("replay")
    - `idempotency_form`: the key in quotes, as the draft of the header has it, or "bare"
    - `parameter_rules`: a parameter that the model does not honour is logged ("warn"), refused ("strict"), sent ("off")
    - `choose_seed`: where a model honours `seed` and none is given, choose one, send it and record it
    - `allowed_image_hosts`: exact `host:port` pairs that pictures may be fetched from although they are not public or
      speak plain http, as an emulator's do
    - `public_image_hosts`: exact `host:port` pairs of the only public hosts that pictures are fetched from, such as
      `storage.example:443`; `None` is any of them
    - `proxy`: `http://user:password@host:port`, or https: whatever is not on this machine is called through a tunnel of
      it; `HTTP_PROXY` and its like are not read
    - `accept_gzip`: ask for packed replies: on slow links it saves a quarter of the time, on others it costs some
    - `keep_alive`: use connections again. Without it each is closed after its reply, which costs one connect each, and
      the client need not be closed: for tests, and for programs that are frozen between two calls
    """

    base_url: str = field(default=BASE_URL, converter=_without_slash, validator=_check_url)
    inference_url: str = field(default=INFERENCE_URL, converter=_without_slash, validator=_check_url)
    model_field: ModelField = field(default="model", validator=check.one_of(("model", "model_name")))
    tier: Tier | None = field(default=None, converter=_tier, validator=_check_tier)
    rate_limit: float | None = field(default=None, validator=check.number(1 / 60, 1_000_000, optional=True))
    shared_by: SharedBy = field(default="process", validator=check.one_of(("process", "host")))
    concurrency: int | None = field(default=None, validator=check.whole(1, 10_000, optional=True))
    retry: RetryPolicy = field(factory=RetryPolicy, validator=check.kind(RetryPolicy))
    timeouts: Timeouts = field(factory=Timeouts, converter=_timeouts, validator=_check_timeouts)
    idempotency: Idempotency = field(default="off", validator=check.one_of(("off", "unknown", "replay")))
    idempotency_form: IdempotencyForm = field(default="quoted", validator=check.one_of(("quoted", "bare")))
    parameter_rules: ParameterRules = field(default="warn", validator=check.one_of(("warn", "strict", "off")))
    choose_seed: bool = field(default=True, validator=check.flag())
    allowed_image_hosts: tuple[str, ...] = field(default=(), converter=_hosts, validator=_check_hosts)
    public_image_hosts: tuple[str, ...] | None = field(default=None, converter=_hosts, validator=_check_public_hosts)
    proxy: str | None = field(default=None, validator=_check_proxy, repr=_without_user)
    accept_gzip: bool = field(default=False, validator=check.flag())
    keep_alive: bool = field(default=True, validator=check.flag())

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Return the defaults, changed by `NEBULA_BASE_URL`, `NEBULA_INFERENCE_URL`, `NEBULA_TIER`, `NEBULA_SHARED_BY`,
        `NEBULA_TIMEOUT` (total, in seconds), `NEBULA_ALLOWED_IMAGE_HOSTS` and `NEBULA_PUBLIC_IMAGE_HOSTS` (separated by
        commas), and `NEBULA_PROXY`.

        Raises `ConfigurationError` that names the variable.
        """
        environ = os.environ if environ is None else environ  # as a default it would be shown by help(), keys and all
        config = cls()
        for variable, read in VARIABLES.items():
            text = environ.get(variable)
            if text is not None:
                config = _changed(config, variable, read, text)
        return config

    def url_of(self, dialect: str) -> str:
        """Return where the "serverless" or the "inference" API is.

        Raises `ConfigurationError` where only the other one was moved to this machine: what is meant for an emulator
        would go to the API itself, and be charged.
        """
        names = {"serverless": ("base_url", "inference_url"), "inference": ("inference_url", "base_url")}
        name, other = names[dialect]
        url: str = getattr(self, name)
        if url in (BASE_URL, INFERENCE_URL) and is_loopback(read_url(getattr(self, other)).hostname or ""):
            raise ConfigurationError(f"{other} is on this machine and {name} is not: give {name} as well")
        return url

    @property
    def per_minute(self) -> float | None:
        """The limit in requests a minute, where it is known: `rate_limit`, else the tier's."""
        if self.rate_limit is not None:
            return self.rate_limit
        return self.tier.per_minute if self.tier else None

    @property
    def per_day(self) -> int | None:
        """The limit in requests a day, where the tier has one."""
        return self.tier.per_day if self.tier else None


def _changed(config: Config, variable: str, read: Callable[[str], dict[str, Any]], text: str) -> Config:
    try:
        return evolve(config, **read(text))
    except ConfigurationError as error:
        raise ConfigurationError(f"environment variable {variable}: {error}") from error


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text  # which its validator refuses, saying what is allowed


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


VARIABLES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "NEBULA_BASE_URL": lambda text: {"base_url": text},
    "NEBULA_INFERENCE_URL": lambda text: {"inference_url": text},
    "NEBULA_TIER": lambda text: {"tier": text},
    "NEBULA_SHARED_BY": lambda text: {"shared_by": text},
    "NEBULA_TIMEOUT": lambda text: {"timeouts": _number(text)},
    "NEBULA_ALLOWED_IMAGE_HOSTS": lambda text: {"allowed_image_hosts": _words(text)},
    "NEBULA_PUBLIC_IMAGE_HOSTS": lambda text: {"public_image_hosts": _words(text)},
    "NEBULA_PROXY": lambda text: {"proxy": text},
}
"""The environment variables that are settings, and how each is read."""
