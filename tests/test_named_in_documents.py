"""What the sentences of the documents name is there: commands and options, events, metrics, keys, files, make targets.

Blocks of code are the part of test_command_blocks.py, tables of keys, fields and metrics that of test_documents.py.
"""

from __future__ import annotations

import re

import msgspec

from bgpd.cli.main import make_parser
from bgpd.cli.parser import below
from bgpd.config.schema import Config
from bgpd.model.workload import WorkloadState
from docs_site.reference import PACKAGE, logged
from tests.test_command_blocks import DOCUMENTS, ROOT, TARGETS
from tests.test_documents import described_metrics

ANY = {"COMMAND", "..."}
"""Words that stand for any command."""
MADE = ("labs/run/", "benchmarks/results/quick/", "bgpd/v1/")
"""What the labs and benchmarks write, and a topic of MQTT."""


def spans(pattern: str) -> set[tuple[str, str]]:
    """Page and text of each `...` of a sentence that the pattern fits, blocks of code left out."""
    found = set()
    for path in DOCUMENTS:
        text = re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        found |= {(path.name, one) for one in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(pattern, one)}
    assert len(found) > 10, "the pattern fits nothing"
    return found


def fault_of(command: str) -> str:
    """What is wrong with a command of a sentence, in which arguments may be left out: "" for nothing."""
    words = re.sub(r"[][]", " ", command).split()[1:]
    parser = make_parser()
    for word in words:
        inner = below(parser.filled())
        if word in ANY:
            return ""
        if not inner or word.startswith("-"):
            break
        if word not in inner:
            return f"no command {word}"
        parser = inner[word]
    options = {word for word in words if re.fullmatch("--[a-z][a-z-]*", word)}
    return " ".join(f"no option {option}" for option in options if parser.option(option) is None)


def test_commands_and_their_options_are_there() -> None:
    faults = {(page, text): fault_of(text) for page, text in spans(r"bgpd [a-z].*")}
    assert {where: fault for where, fault in faults.items() if fault} == {}


def test_events_and_keys_of_the_configuration_are_there() -> None:
    """`part.what_happened`, `section.key`. Some names of events are put together, or constants."""
    _, components = msgspec.json.schema_components([Config])
    keys = {key for definition in components.values() for key in definition.get("properties", ())}
    events = {event.name for event in logged(PACKAGE)} | {f"workload.{state.value}" for state in WorkloadState}
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    events |= set(re.findall(r'"([a-z_]+\.[a-z0-9_]+)"', sources))
    first_words = {event.partition(".")[0] for event in events} | set(Config.__struct_encode_fields__)
    unknown = set()
    for page, text in spans(r"[a-z_]+\.[a-z0-9_]+"):
        section, _, name = text.partition(".")
        is_file = re.search(r"\.(py|toml|md|json|conf|service|sqlite|lock)\b", text)
        is_key = section in keys and name in keys
        if section in first_words and text not in events and not is_key and not is_file:
            unknown.add((page, text))
    assert unknown == set()


def test_metrics_are_there() -> None:
    names = set(re.findall(r"`(bgpd_\w+)`", "\n".join(described_metrics())))
    named = {(page, re.sub("_(bucket|sum|count)$", "", text), text) for page, text in spans(r"bgpd_[a-z_]+")}
    assert {(page, text) for page, base, text in named if not names & {base, text}} == set()


def test_files_are_there() -> None:
    named = spans(r"(bgpd|tests|labs|benchmarks|docs|conf|systemd|packages)/[a-z0-9_/.-]+")
    there = {(page, text) for page, text in named if (ROOT / text).exists() or text.startswith(MADE)}
    assert named - there == set()


def test_make_has_the_targets() -> None:
    assert {(page, text) for page, text in spans(r"make [a-z-]+( .*)?") if text.split()[1] not in TARGETS} == set()
