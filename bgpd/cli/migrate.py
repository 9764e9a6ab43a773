"""Commands that write a configuration: init, by what is seen of the machine; import, from another program's files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.progress import progress
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings, convert, finish
from bgpd.runtime.files import write_new, write_over


def init(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd init`: exit code 0 also where something stands in the way, which is told."""
    from bgpd.migrate.advertisements import hear_routers
    from bgpd.migrate.first_config import FirstConfig
    from bgpd.migrate.machine import look

    refuse_existing(arguments.output, force=arguments.force)
    machine = look()
    with progress.of("listening for routers"):
        hear_routers(machine, arguments.listen)
    first = FirstConfig(machine)
    try:
        text = finish(first.write(), "what was seen", Settings()).text
    except ImportFailed as error:
        raise CommandFailed(str(error)) from None
    remarks = [f"not seen: {what}" for what in machine.unseen]
    remarks += [f"warning: {warning}" for warning in first.warnings]
    write_output(text, arguments, remarks)
    return 0


def import_(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd import FORMAT FILE...`: exit code 0 also where something was not taken over, which is told."""
    output = arguments.output
    passwords = arguments.passwords or (os.path.dirname(os.path.abspath(output)) if output else "")
    refuse_existing(output, force=arguments.force)
    try:
        imported = convert(arguments.format, arguments.files, Settings(arguments.node, passwords, arguments.force))
    except ImportFailed as error:
        raise CommandFailed(str(error)) from None
    write_output(imported.text, arguments, list(map(str, imported.losses)))
    if imported.losses and not arguments.json:
        count = len(imported.losses)
        print(
            f"{count} thing{'s' if count > 1 else ''} to look at; each stands in the configuration, too",
            file=sys.stderr,
        )
    return 0


def refuse_existing(output: str, *, force: bool) -> None:
    """Raises: CommandFailed: the file is there already, with settings, and is not to be overwritten."""
    if output and not force and os.path.lexists(output) and not _has_only_comments(output):
        raise CommandFailed(f"{output} is there already", "name another file, or add --force")


def _has_only_comments(file: str) -> bool:
    """As the one that a new installation brings. A link is none: what it leads to is somebody's."""
    if os.path.islink(file) or not os.path.isfile(file):
        return False
    try:
        with open(file, encoding="utf-8") as opened:
            return all(line.startswith("#") or not line.strip() for line in opened)
    except (OSError, UnicodeDecodeError):
        return False


def write_output(text: str, arguments: argparse.Namespace, remarks: list[str]) -> None:
    """Write a configuration to a file, or to standard output, and tell the remarks. Raises: CommandFailed."""
    if arguments.output:
        _write_file(text, arguments.output, force=arguments.force)
    if arguments.json:
        print(json.dumps({"file": arguments.output, "text": text, "remarks": remarks}, indent=1))
        return
    if not arguments.output:
        sys.stdout.write(text)
    else:
        print(f"{arguments.output} is written: read it, then bgpd check {arguments.output}", file=sys.stderr)
    for remark in remarks:
        print(remark, file=sys.stderr)


def _write_file(text: str, output: str, *, force: bool) -> None:
    try:
        write = write_over if force or _has_only_comments(output) else write_new
        write(Path(output), text.encode())
    except FileExistsError:
        raise CommandFailed(f"{output} is there already", "name another file, or add --force") from None
    except OSError as error:
        raise CommandFailed(
            f"{output} cannot be written: {error.strerror}", "name a file in a directory that you may write to"
        ) from None
