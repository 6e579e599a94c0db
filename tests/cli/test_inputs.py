"""The options of what is read say what a job takes."""

from __future__ import annotations

from typing import Annotated

import pytest
from cyclopts import App, CycloptsError, Parameter

from nebula_async.cli.inputs import Inputs
from nebula_async.errors import InvalidRequestError

NOTHING = {"columns": {}, "repeat": 1, "kind": None, "limit": None, "sample": None}


def given(*tokens: str) -> dict[str, object]:
    """Return what a command makes of its arguments."""
    app = App(result_action="return_value")

    @app.default
    def command(manifest: str, /, *, inputs: Annotated[Inputs, Parameter(name="*")] = Inputs()) -> Inputs:  # noqa: B008
        return inputs

    return app(tokens, print_error=False, exit_on_error=False).given()


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["p.csv"], {}),
        (["p.csv", "--repeat", "3", "--limit", "5", "--sample", "2"], {"repeat": 3, "limit": 5, "sample": 2}),
        (["p", "--format", "tsv"], {"kind": "tsv"}),
        (["--columns", "a=prompt", "--columns", "b=", "p.csv"], {"columns": {"a": "prompt", "b": ""}}),
        (["p.csv", "--columns=a = b=prompt"], {"columns": {"a = b": "prompt"}}),
        (["p.csv", "--columns", "="], {"columns": {"": ""}}),
    ],
)
def test_what_is_given_is_what_a_job_takes(tokens, expected):
    """Each option is an argument of a job; a column's name may hold an equals sign."""
    assert NOTHING | expected == given(*tokens)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (["text"], "--columns takes name=field, such as text=prompt, or name= to drop a column; got 'text'"),
        (["a=prompt", "a=id"], "--columns names a column more than once: a=prompt a=id"),
    ],
)
def test_a_column_that_cannot_be_is_refused(columns, problem):
    """A mapping is checked before anything is read."""
    with pytest.raises(InvalidRequestError) as caught:
        Inputs(columns=tuple(columns)).given()

    assert problem == str(caught.value)


@pytest.mark.parametrize("tokens", [["--repeat", "2.5"], ["--limit", "many"], ["--format", "xml"]])
def test_what_is_no_count_and_no_kind_is_refused(tokens):
    """Counts are whole numbers, and kinds are those that can be read."""
    with pytest.raises(CycloptsError, match=r"whole number|Choose from"):
        given("p.csv", *tokens)
