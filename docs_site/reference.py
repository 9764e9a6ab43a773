"""Pages of the reference that are made of the code: command line, events, HTTP API, malformed messages."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bgpd.api.openapi import document
from bgpd.cli.main import make_parser
from bgpd.cli.parser import Parser, below, helps_of
from docs_site.malformed import malformed_messages

PACKAGE = Path(__file__).parent.parent / "bgpd"
_LEVELS = ("debug", "info", "warning", "error", "exception")


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of each page."""
    yield "command-line", command_line(make_parser())
    yield "events", events(logged(PACKAGE))
    yield "http-api", http_api(document(over_tcp=False))
    yield "malformed-messages", malformed_messages()


# Command line.


def command_line(parser: Parser) -> str:
    """Each command with its arguments and options, as `--help` has them."""
    lines = [
        "# Command line",
        "",
        "Made of the program: what `bgpd COMMAND --help` says.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    commands = list(_commands(parser))
    for words, command, help_text in commands:
        if len(words) == 1:
            lines.append(f"| [`bgpd {words[0]}`](#bgpd-{words[0]}) | {_cell(help_text)} |")
        del command
    for words, command, help_text in commands:
        name = " ".join(words)
        lines += ["", f"{'#' * (len(words) + 1)} bgpd {name}", ""]
        lines += [
            _sentence(help_text),
            "",
            "```text",
            command.format_usage().removeprefix("usage: ").rstrip(),
            "```",
            "",
        ]
        rows = [row for row in (_argument(command, one) for one in command.arguments) if row]
        if rows:
            lines += ["| argument | meaning | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _commands(parser: Parser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser, str]]:
    helps = helps_of(parser)
    for name, command in below(parser).items():
        yield (*words, name), command, helps.get(name, command.description or "")
        yield from _commands(command, (*words, name))


def _argument(command: Parser, action: argparse.Action) -> str:
    """A row of the table; "" for --help and what is not shown."""
    is_help = "--help" in action.option_strings
    if is_help or command.stands_for_commands(action) or action.help == argparse.SUPPRESS:
        return ""
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    if action.option_strings and action.nargs != 0:
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        names += f" `{value if isinstance(value, str) else ' '.join(value)}`"
    default = "" if action.default in (None, False, "", [], argparse.SUPPRESS) else f"`{action.default}`"
    text = (action.help or "") % {"default": action.default, "prog": "bgpd", "metavar": action.metavar or ""}
    return f"| {names.replace('|', chr(92) + '|')} | {_cell(text)} | {default} |"


# Events.


class Event(NamedTuple):
    """What bgpd writes into log and journal: the levels it may have, its fields, the modules that write it."""

    name: str
    levels: Sequence[str]
    fields: Sequence[str]
    modules: Sequence[str]


def logged(package: Path) -> list[Event]:
    """Each event whose name the code spells out, by name."""
    found: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for file in sorted(package.rglob("*.py")):
        module = file.relative_to(package.parent).with_suffix("").as_posix().replace("/", ".")
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and (written := _written(call)):
                name, said = written
                levels, fields, modules = found.setdefault(name, (set(), set(), set()))
                levels |= said
                fields |= {keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg != "exc_info"}
                modules.add(module)
    return [Event(name, *(sorted(part) for part in parts)) for name, parts in sorted(found.items())]


def _written(call: ast.Call) -> tuple[str, set[str]] | None:
    """Name and levels of the event that a call writes: `log.LEVEL(NAME, ...)`, `log.tell(LEVEL, NAME, ...)`, or a
    function that is given `log.LEVEL` and the name. None: it writes none, or one whose name is made at run time."""
    names = [one.value for one in call.args[:3] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    name = next((one for one in names if re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", one)), "")
    spoken = [call.func, *call.args]
    said = {
        node.attr for part in spoken for node in ast.walk(part) if isinstance(node, ast.Attribute) and _is_level(node)
    }
    if not name or not said:
        return None
    levels = {"exception": {"error"}, "tell": {"info", "warning"}}
    return name, set().union(*(levels.get(one, {one}) for one in said))


def _is_level(node: ast.Attribute) -> bool:
    return (
        node.attr in (*_LEVELS, "tell")
        and isinstance(node.value, ast.Name | ast.Call)
        and "log" in ast.unparse(node.value)
    )


def events(known: Sequence[Event]) -> str:
    """The table of events."""
    lines = [
        "# Events",
        "",
        "Made of the code: what bgpd writes into its log and [journal](../journal.md)",
        "(`bgpd show events`, `bgpd monitor`).",
        "The first word says what it is about; `bgpd show events --event session` lists all that begin with it.",
    ]
    topic = ""
    for event in known:
        first = event.name.partition(".")[0]
        if first != topic:
            topic = first
            lines += ["", f"## {topic}", "", "| event | level | fields | from |", "|---|---|---|---|"]
        fields = ", ".join(f"`{field}`" for field in event.fields)
        modules = ", ".join(f"`{module}`" for module in event.modules)
        lines.append(f"| `{event.name}` | {', '.join(event.levels)} | {fields} | {modules} |")
    return "\n".join(lines) + "\n"


# HTTP API.


def http_api(document: Mapping[str, Any]) -> str:
    """Each request of the OpenAPI document."""
    lines = [
        "# HTTP API",
        "",
        "Made of the description that the daemon gives at `GET /openapi.json`. Objects are described in",
        "[JSON views](../json-views.md). Over TCP nothing can be ordered: only GET is there.",
        "",
        "| request | what it does | parameters | answers |",
        "|---|---|---|---|",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = ", ".join(f"`{one['name']}`" for one in operation.get("parameters", ()))
            codes = ", ".join(sorted(operation["responses"]))
            lines.append(f"| `{method.upper()} {path}` | {_cell(operation['summary'])} | {names} | {codes} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return _sentence(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
