"""Tab in real shells: bash, zsh and fish complete commands, options, their choices and files."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from nebula_async.cli.completion import SHELLS, place_for, script_for, what_is_left

PROGRAMS = os.path.dirname(sys.executable)  # noqa: PTH120 - for a PATH


@pytest.fixture(params=SHELLS)
def shell_name(request) -> str:
    """Each shell that is known; one that is not on this machine is passed over, and said so."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    return request.param


@pytest.fixture
def complete(shell_name, tmp_path):
    """Return what a shell offers for a command line whose last word is not finished."""
    (tmp_path / "prompts.txt").write_text("a cat\n")
    place = tmp_path / ("_nebula-async" if shell_name == "zsh" else "script")
    place.write_text(script_for(shell_name))
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    asked = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell_name]
    return lambda line: asked(line, place, environment)


def run(arguments: list[str], place, environment: dict[str, str]) -> str:
    """Run a shell in the folder of the script and return what it prints; it has to be silent otherwise."""
    done = subprocess.run(
        arguments, cwd=place.parent, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert "" == done.stderr
    return done.stdout


def in_bash(line: str, place, environment) -> set[str]:
    """Ask bash as readline does: by the words and the number of the one that is completed."""
    code = """
        . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        $(complete -p nebula-async | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${COMPREPLY[@]}"
    """.replace("\\\\", "\\")
    words = line.split(" ")
    code = code.replace("$(complete -p", "function=$(complete -p").replace("\\1/')", "\\1/'); $function")
    return set(run(["bash", "--norc", "-c", code, "bash", str(place), *words], place, environment).split())


def in_fish(line: str, place, environment) -> set[str]:
    """Ask fish, which has a command for it."""
    told = run(
        ["fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', str(place), line], place, environment
    )
    return {each.split("\t")[0] for each in told.splitlines()}


def in_zsh(line: str, place, environment) -> set[str]:
    """Press Tab in a zsh on a terminal of its own, and return the words that it shows then."""
    begin = (
        f"fpath=({place.parent} $fpath); autoload -Uz compinit; compinit -u -D; unsetopt automenu; LISTMAX=1000;"
        " zstyle ':completion:*' list-separator '' ; PS1='BE''GIN> '; clear\n"
    )
    with terminal(["zsh", "-f", "-i"], place.parent, environment) as (write, read_until):
        write(begin)
        read_until("BEGIN> ")
        write(f"{line}\t")
        write("\t EN")  # when that is shown, what was to be shown before it has been
        return set(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07", " ", read_until(" EN")).split())


@contextlib.contextmanager
def terminal(arguments, folder, environment):
    """Run a program on a terminal of its own; give what writes to it, and what reads until a text comes."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    shown = ""

    def read_until(text: str) -> str:
        nonlocal shown
        began = time.monotonic()
        while text not in shown:
            assert time.monotonic() - began < 20, shown
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536).decode(errors="replace")
        told, shown = shown, ""
        return told

    try:
        yield lambda text: os.write(master, text.encode()), read_until
    finally:
        process.kill()
        process.wait()
        os.close(master)


OFFERED = {
    "commands": ("nebula-async ge", {"generate"}, {"bulk"}),
    "options": ("nebula-async generate --ov", {"--overwrite"}, {"--preview"}),
    "choices": ("nebula-async export cats --format w", {"webdataset"}, {"parquet"}),
    "tiers": ("nebula-async doctor --tier expert", {"expert-1", "expert-2"}, {"engineer-1"}),
    "models": ("nebula-async generate --model stab", {"stabilityai/stable-diffusion-xl-base-1.0"}, set()),
    "files": ("nebula-async bulk prom", {"prompts.txt"}, set()),
    "shells": ("nebula-async completion z", {"zsh"}, {"fish"}),
}


@pytest.mark.parametrize(("line", "offered", "not_offered"), OFFERED.values(), ids=OFFERED)
def test_what_tab_offers(complete, line, offered, not_offered):
    """Each shell offers what fits: commands, options, choices, tiers, models, files."""
    words = complete(line)

    assert offered <= words
    assert set() == not_offered & words


def test_the_script_comes_on_stdout(shell, shell_name, tmp_path):
    """Without --install the script is printed, and nothing is written anywhere."""
    ended = shell.run("completion", shell_name, HOME=str(tmp_path))

    assert (0, "") == (ended.code, ended.err)
    assert script_for(shell_name) == ended.out
    assert [] == shell.files()


def test_it_is_installed_where_the_shell_looks(shell, tmp_path, shell_name):
    """With --install the script is one new file in the user's home, told on stdout; no start-up file is touched."""
    (tmp_path / ".bashrc").write_text("# mine\n")
    (tmp_path / ".zshrc").write_text("# mine\n")
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "BASH_COMPLETION_USER_DIR": ""}
    ended = shell.run("completion", "--install", SHELL=f"/bin/{shell_name}", **home)
    place = next(path for path in tmp_path.rglob("*") if path.is_file() and "rc" not in path.name)

    assert (0, f"{place}\n") == (ended.code, ended.out)
    assert script_for(shell_name) == place.read_text()
    assert what_is_left(shell_name, place) in ended.err
    assert {"# mine\n"} == {(tmp_path / name).read_text() for name in (".bashrc", ".zshrc")}
    assert 3 == len(shell.files())


def test_a_place_that_cannot_be_written(shell, tmp_path):
    """Where the script cannot be written, that is one sentence."""
    (tmp_path / "file").write_text("")
    ended = shell.run("completion", "fish", "--install", XDG_CONFIG_HOME=str(tmp_path / "file"))

    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert ended.err.startswith("nebula-async: Not a directory")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("tcsh",), 'Invalid value "tcsh" for SHELL. Choose from: "bash", "zsh", "fish".'),
        ((), "$SHELL names none of bash, zsh, fish; name the shell, as in nebula-async completion bash"),
    ],
)
def test_a_shell_that_is_not_known(shell, arguments, text):
    """A shell that there is no script for is one clear sentence."""
    ended = shell.run("completion", *arguments, SHELL="/bin/tcsh")

    assert (2, "", f"nebula-async: {text}\n") == (ended.code, ended.out, ended.err)


def test_bash_looks_where_it_says(tmp_path):
    """The places are those that each shell documents, moved by the variables that move them."""
    assert tmp_path / "completions" / "nebula-async" == place_for("bash", {"BASH_COMPLETION_USER_DIR": str(tmp_path)})
    assert tmp_path / "fish/completions/nebula-async.fish" == place_for("fish", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert "_nebula-async" == place_for("zsh", {"XDG_DATA_HOME": str(tmp_path)}).name
