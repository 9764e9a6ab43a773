"""`bgpd man`: the manual pages in the language of man(7), made of the parser and of the configuration's schema."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bgpd import __version__
from bgpd.cli.client import DEFAULT_SOCKET, CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.exit_codes import EXIT_CODES
from bgpd.cli.parser import Parser, below, helps_of

_ENVIRONMENT = (
    ("BGPD_SOCKET", f"The daemon's socket, where --socket does not say it. Without both: {DEFAULT_SOCKET}."),
    ("NO_COLOR", "If it is not empty, nothing is coloured."),
    ("COLUMNS", "The width of tables and help, where it is not that of the terminal."),
)
_FILES = (
    ("/etc/bgpd/bgpd.toml", "The configuration: bgpd.toml(5)."),
    ("/etc/bgpd/conf.d/*.toml", "Its fragments, in the order of their names."),
    ("/var/lib/bgpd", "What the daemon keeps: its state, the journal, the history of routes."),
    (DEFAULT_SOCKET, "The socket of the daemon's API."),
)


def man(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd man DIRECTORY`. Raises: CommandFailed: a file cannot be written."""
    from bgpd.cli.main import make_parser

    root = Path(arguments.directory)
    count = 0
    for name, text in pages(make_parser()):
        path = root / f"man{name[-1]}" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandFailed(
                f"{error.filename or path} cannot be written: {error.strerror}",
                "name a directory that you may write to",
            ) from None
        count += 1
    print(f"{count} pages in {root}")
    return 0


def pages(parser: Parser) -> Iterator[tuple[str, str]]:
    """File name and text of each page."""
    commands = below(parser.filled())
    helps = helps_of(parser)
    yield "bgpd.1", _text(_overview(parser, helps))
    for name, command in commands.items():
        yield f"bgpd-{name}.1", _text(_command_page(name, command, helps[name]))
    from bgpd.cli.schemas import json_schema

    yield "bgpd.toml.5", _text(_configuration(json_schema("config")))


def _text(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


def _head(name: str, section: int, what: str) -> Iterator[str]:
    at = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    yield f'.TH {plain(name.upper())} {section} "{time.strftime("%Y-%m-%d", at)}" "bgpd {__version__}" "bgpd"'
    yield ".SH NAME"
    yield f"{plain(name)} \\- {plain(what)}"


def _overview(parser: Parser, helps: dict[str, str]) -> Iterator[str]:
    yield from _head("bgpd", 1, parser.description or "")
    yield from (".SH SYNOPSIS", ".B bgpd", r".I COMMAND", "[options]")
    yield ".SH DESCRIPTION"
    yield plain(
        "bgpd speaks BGP with the leaf switches of a routed data centre: it announces the addresses of this host's "
        "workloads, and installs what it learns into the Linux kernel. bgpd run is the daemon. All other commands ask "
        "it, or work without it."
    )
    yield from (".SH OPTIONS", *_arguments(parser))
    yield ".SH COMMANDS"
    for name, text in helps.items():
        yield from (".TP", rf".BR bgpd\-{plain(name)} (1)", plain(_sentence(text)))
    yield from (".SH EXIT STATUS", *_terms((str(code), text) for code, text in EXIT_CODES.items()))
    yield from (".SH ENVIRONMENT", *_terms(_ENVIRONMENT))
    yield from (".SH FILES", *_terms(_FILES))
    yield from (".SH SEE ALSO", ".BR bgpd.toml (5),", *_see_also(list(helps)))


def _command_page(name: str, command: Parser, help: str) -> Iterator[str]:
    yield from _head(f"bgpd-{name}", 1, help)
    yield ".SH SYNOPSIS"
    inner = below(command)
    for index, one in enumerate(inner.values() or (command,)):
        if index:
            yield ".PP"
        yield from _synopsis(one)
    yield ".SH DESCRIPTION"
    yield plain(_sentence(command.description or ""))
    if command.epilog:
        yield from (".PP", plain(_sentence(command.epilog)))
    if inner:
        helps = helps_of(command)
        for below_name, one in inner.items():
            yield f'.SH "{plain(f"{command.prog} {below_name}".upper())}"'
            yield plain(_sentence(helps.get(below_name, "")))
            yield from _arguments(one)
    else:
        yield from (".SH OPTIONS", *_arguments(command))
    yield from (".SH EXIT STATUS", plain("See"), ".BR bgpd (1).")
    yield from (".SH SEE ALSO", ".BR bgpd (1),", ".BR bgpd.toml (5)")


def _see_also(names: list[str]) -> Iterator[str]:
    for name in names:
        yield rf".BR bgpd\-{plain(name)} (1){'' if name == names[-1] else ','}"


def _synopsis(parser: Parser) -> Iterator[str]:
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ").removeprefix(parser.prog)
    yield f".B {plain(parser.prog)}"
    if usage.strip():
        yield plain(usage.strip())


def _arguments(parser: Parser) -> Iterator[str]:
    """Each argument and each option, with its help."""
    for action in parser.arguments:
        if action.help == argparse.SUPPRESS or parser.stands_for_commands(action):
            continue
        value = "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())))
        yield ".TP"
        if not action.option_strings:
            yield rf"\fI{plain(value)}\fR"
        else:
            value = f"[{value}]" if action.nargs == "?" else value
            names = ", ".join(rf"\fB{plain(name)}\fR" for name in action.option_strings)
            yield names + (rf" \fI{plain(value)}\fR" if value else "")
        yield plain(_sentence((action.help or "its value") % {"prog": parser.prog}))


def _terms(terms: Any) -> Iterator[str]:
    for term, text in terms:
        yield from (".TP", rf"\fB{plain(term)}\fR", plain(text))


def _configuration(schema: dict[str, Any]) -> Iterator[str]:
    """bgpd.toml(5): each section with its keys, their types, bounds and defaults."""
    definitions = schema["$defs"]
    yield from _head("bgpd.toml", 5, "configuration of bgpd")
    yield ".SH DESCRIPTION"
    yield plain(
        "TOML. bgpd check FILE tells each error with its line, and what would be right; bgpd plan FILE what a reload "
        "would cost. A key that is not known is an error. A key without a default has to be given."
    )
    yield from _section("", definitions[_name(schema)], definitions, ())
    yield from (".SH SEE ALSO", ".BR bgpd (1),", r".BR bgpd\-check (1),", r".BR bgpd\-plan (1)")


def _section(
    path: str, definition: dict[str, Any], definitions: dict[str, Any], above: tuple[str, ...]
) -> Iterator[str]:
    """The keys of one table, then the tables below it."""
    inner: list[tuple[str, str, str]] = []
    required = definition.get("required", ())
    for key, one in definition.get("properties", {}).items():
        table = _table_of(one, f"{path}.{key}" if path else key)
        if table is not None and table[0] not in above:
            inner.append((*table, one.get("description", "")))
            continue
        text = type_text(one, definitions)
        if key not in required and "default" in one:
            text += f"; default: {toml_text(one['default'])}"
        yield from (".TP", rf"\fB{plain(key)}\fR ({plain(text)})")
        yield plain(_sentence(one.get("description", "") or "see docs/configuration.md"))
    for name, title, text in inner:
        yield f'.SH "{plain(title)}"'
        of_table = definitions[name].get("description", "").partition(": ")[2]
        yield plain(" ".join(_sentence(one) for one in (of_table, "" if text in definitions[name].values() else text)))
        yield from _section(title.strip("[]"), definitions[name], definitions, (*above, name))


def _table_of(schema: dict[str, Any], path: str) -> tuple[str, str] | None:
    """The definition that a key is of, and how its table is written; None for a plain value."""
    for one in (schema, *schema.get("anyOf", ())):
        values = one.get("additionalProperties")
        if "$ref" in one:
            return _name(one), f"[{path}]"
        if "$ref" in one.get("items", {}):
            return _name(one["items"]), f"[[{path}]]"
        if isinstance(values, dict) and "$ref" in values:
            return _name(values), f"[{path}.NAME]"
    return None


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


_TYPES = {
    "string": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "null": "nothing",
}


def type_text(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """ "whole number, 1 to 65535", "list of text", "one of: a, b"."""
    if "$ref" in schema:
        return type_text(definitions[_name(schema)], definitions)
    if "enum" in schema:
        return "one of: " + ", ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(type_text(one, definitions) for one in schema["anyOf"] if one.get("type") != "null")
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_TYPES.get(str(one), str(one)) for one in kind if one != "null")
    if kind == "array":
        return f"list of {type_text(schema.get('items') or {'type': 'string'}, definitions)}"
    text = _TYPES.get(str(kind), "table")
    if "minimum" in schema and "maximum" in schema:
        text += f", {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        text += f", at least {schema['minimum']}"
    return text


def toml_text(value: object) -> str:
    """A default as the file would have it."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "none"
        case str():
            return f'"{value}"'
        case list() | tuple():
            return f"[{', '.join(map(toml_text, value))}]"
    return str(value)


def _sentence(text: str) -> str:
    """With a capital at the beginning and a full stop at the end, as far as that changes no name."""
    text = text.strip()
    if not text:
        return ""
    first = text.split()[0]
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else f"{text}."


def plain(text: str) -> str:
    """Text that man(7) takes as it is: no escape, no request, no hyphen that becomes another character."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = text.replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith((".", "'")) else text
