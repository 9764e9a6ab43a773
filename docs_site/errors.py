"""The page of errors, made of the code: what bgpd says is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bgpd.cli.exit_codes import EXIT_CODES
from bgpd.message.notification import describe_notification
from docs_site.messages import GAP, Said, hints, said_by
from docs_site.notifications import NOTIFICATIONS


def page(package: Path) -> str:
    """The page, of the program's folder."""
    sections = {
        _HEAD: (),
        "## Exit codes": _table(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()]),
        _CONFIGURATION: _table(("key", "what is wrong", "what would be right"), _configuration(package / "config")),
        _REQUESTS: _table(("status", "error", "hint"), sorted(set(said_by(package, "Rejected")))),
        _COMMANDS: _table(("what is wrong", "what to do"), _commands(package / "cli")),
        _NOTIFICATION: _table(("code", "what it says", "meaning", "what to do"), list(_notifications())),
    }
    return "\n\n".join("\n".join([head, "", *rows] if rows else [head]) for head, rows in sections.items()) + "\n"


_HEAD = f"""# Errors

Made of the code: what bgpd says is wrong, and what to do. {GAP} stands for what differs: a name, a number."""
_CONFIGURATION = """## Configuration

`bgpd check` has all of them at once, each with file, line and key; some are warnings. A start with an error ends with
exit code 78, and a reload with one changes nothing. [Configuration](../configuration.md) has what each key takes.
Without a key: of any, or of the file."""
_REQUESTS = """## HTTP API

An error is `{"error": ..., "hint": ...}` with this status ([JSON views](../json-views.md#errorview)). The command line
prints both and ends with exit code 1."""
_COMMANDS = """## Commands

Exit code 1, or 2 for wrong usage."""
_NOTIFICATION = """## NOTIFICATION

The end of a session, as `bgpd show neighbors`, the log and the journal tell it: code and subcode in words, and what the
data say (RFC 4271, RFC 4486, RFC 6608, RFC 7313, RFC 8538, RFC 9003, RFC 9234, RFC 9384)."""


def _configuration(folder: Path) -> list[tuple[str, ...]]:
    found = {*said_by(folder, "Finding"), *said_by(folder, "Problem"), *said_by(folder, "TextError")}
    found |= {Said("", "is no TOML", hint) for hint in hints(folder / "toml_errors.py")}
    return [
        (f"`{one.about}`" if one.about else "", *one[1:]) for one in sorted(found, key=lambda one: (not one.about, one))
    ]


def _commands(folder: Path) -> list[tuple[str, ...]]:
    found = {*said_by(folder, "CommandFailed"), *said_by(folder, "WrongUsage")}
    return [one[1:] for one in sorted(found)]


def _notifications() -> Iterator[tuple[str, ...]]:
    for (code, subcode), (meaning, todo) in NOTIFICATIONS.items():
        yield f"{code}/{subcode}", f"`{describe_notification(code, subcode)}`", meaning, todo


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [
        " | ".join(text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for text in row) for row in rows
    ]
    return [f"| {line} |" for line in lines]
