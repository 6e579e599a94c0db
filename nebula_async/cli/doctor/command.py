"""`nebula-async doctor`: looks at all at once, each within its time, and says what it found."""

from __future__ import annotations

import os
from typing import Annotated

import anyio
from cyclopts import Parameter

from nebula_async.cli.connection import INTERRUPTED, Connection, Switch, configured, ended, placed
from nebula_async.cli.doctor.checks import Place, check_all
from nebula_async.cli.doctor.finding import concealed
from nebula_async.cli.doctor.settings import read_settings
from nebula_async.cli.doctor.text import tell_findings, tell_json
from nebula_async.cli.output import say
from nebula_async.keys import KEY_VARIABLE


def doctor(
    *,
    as_json: Annotated[bool, Switch, Parameter(name="--json")] = False,
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Look whether all is there that a run needs: versions, key, network, clock, balance, models, limits, disk.

    Nothing is bought, and the key is not shown. Takes ten seconds at most. Each line says how something stands, and
    what to do. Exit codes: 0 nothing would stop a run, 1 something would, 2 wrong use.

    Parameters
    ----------
    as_json
        Print one JSON object instead of lines.
    """
    return ended(_run, connection, as_json)


def _run(connection: Connection, is_json: bool) -> int:
    try:
        return anyio.run(_doctor, connection, is_json)
    except KeyboardInterrupt:
        say("nebula-async: interrupted; nothing was bought")
        return INTERRUPTED


async def _doctor(connection: Connection, is_json: bool) -> int:
    settings = read_settings(os.environ)
    config = configured(connection, environ=settings.usable)
    with placed(connection, config) as (config, key):
        environ = settings.usable if key is None else {**settings.usable, KEY_VARIABLE: key}
        findings = await check_all(Place(config, environ, settings.findings, is_emulated=key is not None))
    findings = [concealed(finding, settings.secrets) for finding in findings]
    tell = tell_json if is_json else tell_findings
    tell(findings)
    return 1 if any(finding.state == "problem" for finding in findings) else 0
