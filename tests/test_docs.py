"""What the pages of docs/ list, held against what is there; and their links."""

from __future__ import annotations

import inspect
import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import attrs
import pytest
from documents import README, ROOT
from page_runs import environ_of, shell
from test_layering import FLOORS

import nebula_async
from nebula_async import config, events, sync, testing
from nebula_async import emulator as local
from nebula_async.cli import sharing
from nebula_async.cli.app import COMMANDS, app
from nebula_async.integrations import fastapi, ray, starlette
from nebula_async.integrations.ray_batches import RowResult

spec = spec_from_file_location("links", ROOT / "docs/links.py")
links = module_from_spec(spec)
spec.loader.exec_module(links)

EVENT = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", flags=re.MULTILINE)


@pytest.fixture
def environ(emulator, tmp_path_factory) -> dict[str, str]:
    """The environment of someone with a key, whose API is the emulator."""
    return environ_of(emulator, tmp_path_factory.mktemp("state"))


class TestReference:
    """The reference has all public names."""

    def test_every_public_name_has_its_place(self):
        """Each name that can be imported from the package stands on one page of the reference."""
        assert sorted(nebula_async.__all__) == sorted(_referred("nebula_async"))

    def test_clients_events_and_the_emulator_have_theirs(self):
        """So has the synchronous client, every event, and what a test needs of the emulator."""
        kinds = {event.__name__ for event in events.Event.__args__}
        assert kinds <= set(_referred("nebula_async.events"))
        assert set(sync.__all__) == set(_referred("nebula_async.sync"))
        assert set(testing.__all__) == set(_referred("nebula_async.testing"))
        web = {*_referred("nebula_async.integrations.fastapi"), *_referred("nebula_async.integrations.starlette")}
        assert web == {*fastapi.__all__, *starlette.__all__}
        assert set(ray.__all__) == set(_referred("nebula_async.integrations.ray"))
        assert {"Emulator", "Fault", "Journal", "RequestRecord", "Script"} == _names_below("nebula_async.emulator")


class TestFacts:
    """What the guide lists is what is there."""

    def test_options_and_columns_of_ray_datasets_are_listed(self):
        """The page of Ray names each option of the class and each column that is added, in order, and no others."""
        of_pool, options, columns, *_ = (ROOT / "docs/ray.md").read_text().split("\n|---|---|---|\n")[1:]
        given = [each.name for each in attrs.fields(ray.NebulaImages) if each.init]
        added = [each.name for each in attrs.fields(RowResult)]
        rows = [re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], flags=re.MULTILINE)
                for table in (of_pool, options, columns)]  # fmt: skip
        assert [["actors", "batch_size", "num_cpus"], sorted(given), added] == [rows[0], sorted(rows[1]), rows[2]]

    def test_all_options_of_all_commands_are_listed(self):
        """The page of the command line names each command, and each option, and none that there is not."""
        page = (ROOT / "docs/commands.md").read_text()
        options = {name for command in COMMANDS for name in _options(command)}
        assert [] == [command for command in COMMANDS if f"`{command}`" not in page]
        assert sorted(options | {"--help"}) == sorted({*re.findall(r"`(--?[a-z][a-z-]*)[` ]", page)})

    def test_the_variables_of_the_environment_are_listed(self):
        """Each variable that sets something has its row."""
        page = (ROOT / "docs/commands.md").read_text()
        named = set(re.findall(r"^\| `(NEBULA_\w+)` \|", page, flags=re.MULTILINE))
        assert {*config.VARIABLES, "NEBULA_API_KEY", "NEBULA_STATE_DIR", sharing.VARIABLE} == named

    def test_the_events_of_a_run_have_the_fields_that_are_listed(self, environ, tmp_path):
        """A program that reads `bulk --json` finds the fields of the page, in each event."""
        page = (ROOT / "docs/commands.md").read_text()
        listed = {name: re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row)) for name, row in EVENT.findall(page)}
        (tmp_path / "cats.txt").write_text("a cat\na gore cat\n")
        with shell(tmp_path, environ) as opened:
            told = opened.run("nebula-async bulk cats.txt --json --dialect inference --model sdxl # (exit code 1)")
        met = {}
        for line in told.splitlines():
            event = json.loads(line)
            met[event["event"]] = [name for name in event if name not in ("event", "time")]
        assert {"plan", "start", "item", "progress", "report"} == set(met)
        assert [listed[name] for name in ("start", "item", "progress")] == [
            met[name] for name in ("start", "item", "progress")
        ]
        assert ["gallery", "exit_code"] == met["report"][-2:]

    def test_the_rooms_of_the_house_are_all_there(self):
        """The table of rooms is that of the layering test, floor by floor."""
        page = (ROOT / "docs/architecture.md").read_text()
        rooms = re.findall(r"^\| (\d) \| `(\w+)` \|", page, flags=re.MULTILINE)
        assert FLOORS == {room: int(floor) for floor, room in rooms}

    def test_the_faults_of_the_emulator_are_such(self):
        """Each fault of the emulator's page can be given to it."""
        page = (ROOT / "docs/emulator.md").read_text()
        faults = re.findall(r"^\| `(\S+:\S+)` \|", page, flags=re.MULTILINE)
        assert 8 == len(faults)
        assert faults == [local.Fault.parse(text).text for text in faults]

    def test_the_keywords_of_the_emulator_are_listed(self):
        """Each option of the emulator has its place in the table."""
        page = (ROOT / "docs/emulator.md").read_text()
        rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|.*\| .* \|$", page, flags=re.MULTILINE)
        named = {name for row in rows for name in re.findall(r"\w+", row)}
        assert set(inspect.signature(local.Emulator).parameters) == named

    def test_the_tiers_are_listed(self):
        """The limits of the documented tiers stand in the guide."""
        page = (ROOT / "docs/client.md").read_text()
        for tier in config.TIERS.values():
            daily = "" if tier.per_day is None else f" {tier.per_day:,}"
            assert f"| `{tier.name}` | {tier.per_minute:,.0f} |{daily} |" in page


class TestLinks:
    """A link that leads nowhere ends `make docs`."""

    def test_all_links_lead_somewhere(self):
        """Links between README and pages, to headings and to files of the repository are good as they stand."""
        read_in_place = [ROOT / name for name in ("CHANGELOG.md", "benchmarks/README.md", "examples/README.md")]
        pages = [README, *read_in_place, *(ROOT / "docs").rglob("*.md")]
        assert [] == links.problems_of_markdown(ROOT, pages)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("[a](b.md)", "b.md leads nowhere: there is no b.md"),
            ("![a](images/b.png)", "images/b.png leads nowhere: there is no images/b.png"),
            ('<img src="b.png">', "b.png leads nowhere: there is no b.png"),
            ("[a](#b)", "#b leads nowhere: page.md has no heading #b"),
            ("[a](page.md#b)", "page.md#b leads nowhere: page.md has no heading #b"),
            ("see `examples/b.py`", "`examples/b.py` is not there"),
            ("[a]: b.md", "b.md leads nowhere: there is no b.md"),
        ],
    )
    def test_a_bad_link_is_told(self, text, told, tmp_path):
        """A page, picture, heading or file that is not there is named."""
        page = tmp_path / "page.md"
        page.write_text(f"# Page\n\n{text}\n")
        assert [f"page.md: {told}"] == links.problems_of_markdown(tmp_path, [page])

    def test_good_links_and_code_are_left_alone(self, tmp_path):
        """Headings in code font, links to the web, and what stands in blocks or in code font is no problem."""
        page = tmp_path / "page.md"
        page.write_text(
            "# Its `--json` (new)\n[a](#its---json-new) [b](https://x.y/z) `[c](d.md)`\n```\n[e](f.md)\n```\n"
        )
        assert [] == links.problems_of_markdown(tmp_path, [page])

    @pytest.mark.parametrize(
        ("html", "told"),
        [
            ('<a href="b.html">', "b.html leads nowhere: there is no such page or file"),
            ('<a href="#b">', "#b leads nowhere: index.html has no #b"),
            ('<img src="b.png">', "b.png leads nowhere: there is no such page or file"),
            ('<a href="/index.html">', "/index.html leads nowhere where the site is not at the root of a host"),
            ('<a href="../index.html">', "../index.html leads nowhere: there is no such page or file"),
            ('<script src="https://x.y/z.js">', "https://x.y/z.js is fetched from elsewhere"),
            ('<link rel="stylesheet" href="//x.y/z.css">', "//x.y/z.css is fetched from elsewhere"),
        ],
    )
    def test_a_bad_link_of_the_built_pages_is_told(self, html, told, tmp_path):
        """What is built may neither lead nowhere nor make a browser fetch anything from the network."""
        (tmp_path / "index.html").write_text(f'<h1 id="a">{html}</h1><a href="#a"><a href="https://x.y">')
        assert [f"index.html: {told}"] == links.problems_of_site(tmp_path)

    def test_styles_fetch_nothing(self, tmp_path):
        """Fonts and pictures of a style sheet come with the pages."""
        (tmp_path / "a.css").write_text("@import 'https://x.y/z.css'; a {background: url(data:image/png;base64,)}")
        assert ["a.css: https://x.y/z.css is fetched from elsewhere"] == links.problems_of_site(tmp_path)


def _options(command: str) -> list[str]:
    names = [name for argument in app[command].assemble_argument_collection() for name in argument.names]
    return [name for name in names if name.startswith("-")]


def _referred(module: str) -> list[str]:
    found = re.findall(rf"^::: {re.escape(module)}\.(\w+)$", _reference(), flags=re.MULTILINE)
    return [name for name in found if name != "log_event"]


def _names_below(module: str) -> set[str]:
    return set(re.findall(rf"^::: {re.escape(module)}\.(?:\w+\.)*(\w+)$", _reference(), flags=re.MULTILINE))


def _reference() -> str:
    return "\n".join(page.read_text() for page in sorted(Path(ROOT / "docs/api").glob("*.md")))
