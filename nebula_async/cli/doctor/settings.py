"""The settings: the `NEBULA_` variables that count, those that do not, and the proxies that are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from urllib.parse import unquote

from attrs import frozen

from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.config import VARIABLES, Config
from nebula_async.engine.host_store import STATE_VARIABLE
from nebula_async.engine.proxy import Proxy
from nebula_async.errors import ConfigurationError
from nebula_async.keys import KEY_VARIABLE, looks_like_key

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@frozen
class Settings:
    """The variables that can be used, what was found of them and the others, and the values that nobody may see."""

    usable: Mapping[str, str]
    findings: tuple[Finding, ...]
    secrets: frozenset[str]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of the environment; a variable that cannot be used is said, and left out."""
    ours = {name: value for name, value in environ.items() if name.upper().startswith("NEBULA")}
    wrong = {name: error for name in VARIABLES if name in ours and (error := _error_in(name, ours[name]))}
    usable = {name: value for name, value in environ.items() if name not in wrong}
    findings = (*_of_known(ours, wrong), *_of_unknown(ours), *_of_proxies(environ, "NEBULA_PROXY" in ours))
    return Settings(usable, findings, frozenset(_secrets(ours)) - {""})


def _proxy_secrets(url: str | None) -> Iterator[str]:
    """Yield what in a proxy's URL nobody may see: who is let in, as it is written and as it is sent."""
    user, sign, _ = (url or "").partition("://")[2].rpartition("@")
    if sign:
        password = user.partition(":")[2]
        yield from filter(None, (user, unquote(user), password, unquote(password)))
        with suppress(ConfigurationError):  # it is sent nowhere
            yield (Proxy.at(url or "").authorization or "").removeprefix("Basic ")


def _error_in(name: str, value: str) -> str | None:
    try:
        Config.from_env({name: value})
    except ConfigurationError as error:
        return error.message
    return None


def _of_known(ours: Mapping[str, str], wrong: Mapping[str, str]) -> Iterator[Finding]:
    for name, error in wrong.items():
        yield problem(name, error.partition(f"{name}: ")[2] or error, f"change it, or unset {name}")
    read = [name for name in (*VARIABLES, STATE_VARIABLE) if name in ours and name not in wrong]
    shown = {name: _shown(name, ours[name]) for name in read}
    if shown:
        yield fine("settings", ", ".join(f"{name}={value}" for name, value in shown.items()), **shown)
    else:
        yield fine("settings", "those that are built in; no variable changes any")


def _shown(name: str, value: str) -> str:
    if name != "NEBULA_PROXY":
        return value
    proxy = Proxy.at(value)
    return f"http{'s' if proxy.is_tls else ''}://{'***@' if proxy.authorization else ''}{proxy}"


def _of_unknown(ours: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a note for each variable that looks like ours and is not read; its value may be a key that was misnamed."""
    known = (*VARIABLES, STATE_VARIABLE, KEY_VARIABLE)
    for name in sorted(ours.keys() - set(known)):
        close = get_close_matches(name.upper(), known, n=1, cutoff=0.75)
        advice = f"if you meant {close[0]}, set that" if close else f"unset it; those that are read: {', '.join(known)}"
        yield note(name, "it is set, and nothing reads it", advice)


def _of_proxies(environ: Mapping[str, str], is_given: bool) -> Iterator[Finding]:
    found = [name for upper in PROXIES for name in (upper, upper.lower()) if environ.get(name)]
    if found:
        text = f"{' and '.join(found)} {'are' if found[1:] else 'is'} set, and not read"
        advice = f'if the API is to be called through it: export NEBULA_PROXY="${found[0]}"'
        yield note("other proxies", text, "NEBULA_PROXY is what counts" if is_given else advice)


def _secrets(ours: Mapping[str, str]) -> Iterator[str]:
    """Yield the key, whatever looks like one and was given in another place, and who a proxy lets in."""
    yield ours.get(KEY_VARIABLE, "").strip()
    yield from (value.strip() for value in ours.values() if looks_like_key(value))
    yield from _proxy_secrets(ours.get("NEBULA_PROXY"))
