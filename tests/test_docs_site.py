"""The documentation site: each page is in its navigation, links lead somewhere, the reference lacks nothing."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from bgpd.cli.main import make_parser
from bgpd.cli.schemas import json_schema
from bgpd.message.notification import _SUBCODES
from bgpd.model.iana import ErrorCode
from docs_site import drawings, errors, mqtt, reference
from docs_site.__main__ import REPOSITORY, write
from docs_site.notifications import NOTIFICATIONS

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site") / "pages"
    write(directory)
    return directory


def navigation() -> set[str]:
    def pages(part: object) -> set[str]:
        if isinstance(part, str):
            return {part}
        parts = part.values() if isinstance(part, dict) else part
        assert isinstance(parts, list) or hasattr(parts, "__iter__")
        return {page for one in parts for page in pages(one)}

    return pages(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"])


def test_each_page_is_in_the_navigation(site: Path) -> None:
    there = {str(page.relative_to(site)) for page in site.rglob("*.md")}
    assert {page for page in there if not re.match(r"decisions/\d", page)} == navigation()


def test_links_lead_somewhere(site: Path) -> None:
    """Also their anchors, which mkdocs makes of the headings."""
    for page in site.rglob("*.md"):
        text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target, anchor in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
            found = (page.parent / target).resolve() if target else page
            assert found.exists(), f"{page.relative_to(site)}: {target}"
            if anchor and found.suffix == ".md":
                assert anchor in {slug(one) for one in HEADING.findall(found.read_text())}, (
                    f"{page.name}: {target}#{anchor}"
                )


def slug(heading: str) -> str:
    text = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def test_reference_has_each_command_and_option() -> None:
    text = reference.command_line(make_parser())
    for words, command, _ in reference._commands(make_parser()):
        section = text.partition(f"# bgpd {' '.join(words)}\n")[2].partition("\n#")[0]
        assert section, words
        for action in command.arguments:
            for option in action.option_strings:
                is_shown = option not in ("-h", "--help") and action.help != argparse.SUPPRESS
                assert not is_shown or f"`{option}`" in section, f"{words} {option}"


def test_each_argument_says_what_it_is() -> None:
    bare = {
        (command.prog, one.dest)
        for _, command, _ in reference._commands(make_parser())
        for one in command.arguments
        if not one.help and not command.stands_for_commands(one)
    }
    assert bare == set()


def test_reference_has_each_event() -> None:
    """Written by a method of the log, with a level's name, or by a function that is given such a method."""
    events = {event.name: event for event in reference.logged(reference.PACKAGE)}
    assert events["bgpd.started"].fields == ["seconds"]
    assert events["mrt.files"].levels == ["info", "warning"]
    assert events["session.closed"].levels == ["info", "warning"]
    assert events["bfd.down"].levels == ["warning"]


def test_errors_have_each_text_that_the_code_spells_out() -> None:
    """Those that are made of parts have a gap for each."""
    page = errors.page(reference.PACKAGE)
    told = {"Finding": 1, "Rejected": 1, "CommandFailed": 0, "WrongUsage": 0}
    found = 0
    for file in reference.PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in told:
                continue
            what = call.args[told[call.func.id]] if len(call.args) > told[call.func.id] else None
            if isinstance(what, ast.Constant) and ("cli" in file.parts or call.func.id in ("Finding", "Rejected")):
                found += 1
                assert f"| {str(what.value).replace('|', chr(92) + '|')} |" in page, f"{file.name}: {what.value}"
    assert found > 30
    assert '| `bmp[].address` | "…" is a prefix | write the address alone: "…" |' in page, "what a function answers"
    assert "| 408 | the body of the request did not come within 10 s |" in page, "a constant's value"


def test_errors_have_each_notification() -> None:
    subcodes = {code: [int(one) for one in kind] for code, kind in _SUBCODES.items()}
    known = {(int(code), subcode) for code in ErrorCode for subcode in subcodes.get(code, [0])}
    assert set(NOTIFICATIONS) - {(6, 0)} == known
    assert "| 6/2 | `cease/administrative-shutdown` |" in errors.page(reference.PACKAGE)


def test_mqtt_page_has_each_topic_that_is_heard_or_said() -> None:
    feed = reference.PACKAGE / "workload" / "feed"
    (heard,) = re.findall(r"for what in \(([^)]*)\)", (feed / "mqtt.py").read_text())
    said = re.findall(r'\.publish\((f?"[^"]+"|_topic_of)', (feed / "published.py").read_text())
    topics = {"neighbors/NAME" if one == "_topic_of" else one.removeprefix("f").strip('"') for one in said}
    topics = {re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), one) for one in topics}
    assert {one.name for one in mqtt.TOPICS if one.is_said} == topics | {"events"}
    wanted = {re.sub(r"/(ID|NAME)$", "/+", one.name) for one in mqtt.TOPICS if not one.is_said}
    assert wanted == set(re.findall(r'"([^"]+)"', heard))
    page = mqtt.page()
    for name in ("workload", "service", "sync", "status", "workload-report"):
        for definition in json_schema(name)["$defs"].values():
            assert all(f"| `{field}` |" in page for field in definition.get("properties", ()))


def test_documents_name_events_that_are_there() -> None:
    names = {event.name for event in reference.logged(reference.PACKAGE)}
    for page in ("failures.md", "troubleshooting.md", "bfd.md", "history.md"):
        text = (REPOSITORY / "docs" / page).read_text()
        found = re.findall(r"`((?:session|bfd|handover|bgpd|fib)\.[a-z_]+)`", text)
        assert [name for name in found if name not in {*names, "bgpd.toml", "fib.protocol"}] == [], page


@pytest.mark.parametrize("name", drawings.PICTURES)
def test_picture_is_as_it_is_drawn_and_shown(name: str) -> None:
    """`python -m docs_site.drawings` writes them."""
    text = (REPOSITORY / "docs" / name).read_text()
    assert text == drawings.PICTURES[name]().svg()
    assert ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title") is not None
    assert f"]({name})" in (REPOSITORY / "docs/concepts.md").read_text()


def test_decisions_have_numbers_of_their_own() -> None:
    pages = sorted((REPOSITORY / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. "), page.name
