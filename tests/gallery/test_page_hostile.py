"""Hostile prompts on the page of a gallery: each is text, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from browser import COUNT_ELEMENTS, new_window, settled
from hostile_prompts import COMMAND, HOSTILE, MARKUP, SCRIPT
from sample_page import failure, picture, write_gallery

from nebula_async.cli.app import app

NO_FILE = "ERR_FILE_NOT_FOUND"

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "fish", "ksh") if shutil.which(shell)]

OWN_ELEMENTS = {
    *("html", "head", "body", "meta", "title", "link", "script", "noscript", "template", "header", "main", "div", "p"),
    *("form", "input", "output", "label", "select", "option", "datalist", "button", "dialog", "details", "summary"),
    *("h1", "h2", "h3", "span", "ul", "li", "b", "a", "dl", "dt", "dd", "pre", "kbd", "figure", "img"),
}

READ_ALL = """async () => {
  const read = (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent);
  const found = [];
  for (;;) {
    found.push(JSON.stringify([
      document.querySelector("#box-prompt").textContent, read("#box-commands h3"), read("#box-commands pre"),
      document.querySelectorAll("#box-prompt *, #box-facts dd *, #box-commands pre *").length,
    ]));
    if (document.querySelector("#next").disabled) return found;
    document.querySelector("#next").click();
  }
}"""


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    """What the page shows of each prompt, as a picture's and as a failure's; nothing went wrong meanwhile."""
    entries = [
        *(picture(number, prompt, negative_prompt=prompt, id=prompt) for number, prompt in enumerate(HOSTILE)),
        *(failure(1_000 + number, prompt, error=prompt, next_step=prompt) for number, prompt in enumerate(HOSTILE)),
    ]
    url = write_gallery(tmp_path_factory.mktemp("hostile") / "a b'c", entries)
    with new_window(browser) as window, window.showing(f"{url}#open=0", but=NO_FILE) as page:
        found = [json.loads(each) for each in page.evaluate(READ_ALL)]
        page.keyboard.press("Escape")
        settled(page)
        counts = page.evaluate(COUNT_ELEMENTS)
        assert counts.keys() <= OWN_ELEMENTS
        tiles = page.locator(".tile").count()
        assert {"script": 14, "img": tiles + 2, "meta": 5, "link": 1}.items() <= counts.items()
        assert not page.evaluate("() => document.querySelectorAll('.tile .caption *, .tile .failure * *').length")
        yield found


def test_there_are_sixty():
    """And no two are the same."""
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


def test_each_is_shown_as_text_exactly(shown):
    """Whatever it says; no element is made of it, no script runs, no request leaves, no dialog opens (B9, B47)."""
    assert [*HOSTILE, *HOSTILE] == [prompt for prompt, *_ in shown]
    assert {0} == {elements for *_, elements in shown}


def test_each_is_found_and_kept_in_the_address(browser, tmp_path):
    """A search is text too, and so is what stands behind the #."""
    url = write_gallery(tmp_path / "cats", [failure(number, prompt) for number, prompt in enumerate(HOSTILE)])
    with new_window(browser) as window, window.showing(url, but=NO_FILE) as page:
        for prompt in (*MARKUP[::8], *SCRIPT[:2], *COMMAND[1::8]):
            page.fill("#q", prompt)
            settled(page)
            assert page.locator(".tile").count() >= 1, prompt
        assert page.url.startswith(url)


def commands_of(shown):
    """Return the prompts with the commands that ask for them."""
    return [(prompt, texts[0]) for prompt, whats, texts, _ in shown if whats[0] == "Command that asks for it again"]


def calls(shell, folder, commands):
    """Paste commands into a shell; return the words of each call of the program, and nothing else may be done."""
    stub = folder / "nebula-async"
    stub.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" END\n")
    stub.chmod(0o700)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    pasted = "\n".join(commands).encode()
    done = subprocess.run([shell], input=pasted, cwd=folder, env=environment, capture_output=True)
    assert b"" == done.stderr
    assert {stub.name} == {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return [call.decode().split("\0") for call in done.stdout.split(b"\0END\0")[:-1]]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pasted_command_gives_exactly_the_prompt(shown, shell, tmp_path):
    """In each shell that is here: one command, the words that were meant, nothing else run."""
    meant = commands_of(shown)[: len(HOSTILE)]
    found = calls(shell, tmp_path, [command for _, command in meant])
    assert [prompt for prompt, _ in meant] == [call[-1] for call in found]
    assert {"--"} == {call[-2] for call in found}


def test_the_command_line_takes_each_command(shown, tmp_path):
    """Options and prompt arrive in `nebula-async generate` as they were in the request."""
    meant = [(prompt, command) for prompt, command in commands_of(shown) if prompt in (*COMMAND, *MARKUP[::8])]
    for (prompt, _), words in zip(meant, calls("sh", tmp_path, [command for _, command in meant]), strict=True):
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        given = bound.kwargs["parameters"]
        assert prompt == bound.args[0]
        assert 7 == given.seed
        assert given.negative_prompt in (prompt, None)


def test_a_prompt_that_no_shell_takes_is_given_as_a_line_of_a_manifest(shown):
    """Control characters would do something in a terminal: there is a line of JSON instead, in ASCII."""
    lines = {prompt: texts for prompt, whats, texts, _ in shown[len(HOSTILE) :] if "line of a manifest" in whats[0]}
    assert {"a\x00b", "\x08\x7f\x9b2J\r\t", "\ud800 half of a character"} < set(lines)
    for prompt, (line,) in lines.items():
        assert prompt == json.loads(line)["prompt"]
        assert line.isascii()
        assert line.isprintable()
