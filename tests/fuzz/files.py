"""Targets: what is read from files: the configuration, the state directory, the snapshot of a hand-over, MRT."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from bgpd.__main__ import _report_message
from bgpd.cli import mrt
from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.replay import _said_again
from bgpd.cli.tables import _event
from bgpd.config.check_api import BadApiFile, read_token, server_context
from bgpd.config.facts import machine_id
from bgpd.config.identity import FILE, read_identity
from bgpd.config.load import ConfigError, parse_config
from bgpd.config.password_file import BadPasswordFile, read_password_file
from bgpd.fib.protocol import names_of
from bgpd.handover import snapshot
from bgpd.history import segments
from bgpd.history.blocks import _BLOCK, _SUM
from bgpd.inheritance import SNAPSHOT, Inheritance, read
from bgpd.journal.store import JournalFile, JournalUnusable, Sought, read_copy
from bgpd.message.mrt import MalformedMrt, read_records
from bgpd.model.views.host import EventView
from bgpd.runtime.boot import has_run_since_boot
from bgpd.runtime.lock import NamespaceLock
from bgpd.trial import NAME as TRIAL
from bgpd.trial import Trial
from bgpd.workload.feed.saved import check_saved, read_saved
from bgpd.workload.feed.state_file import StateFile
from bgpd.workload.service import saved_standing, service_file
from bgpd.workload.service.saved_health import SavedHealth
from bgpd.workload.service.service_file import ServiceFile
from tests.fuzz.target import Script, Target, directory
from tests.handover.sections import SECTIONS

CONFIGURATION = Path(__file__).parents[2] / "conf" / "bgpd.toml"


# The configuration


def run_config(data: bytes) -> None:
    """A configuration file: it is taken, or each problem has its place and can be told."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        config, warnings = parse_config(text, "bgpd.toml")
    except ConfigError as error:
        problems = error.problems
        assert problems
    else:
        problems = warnings
        msgspec.json.encode(config)
    for problem in problems:
        assert 0 <= problem.line <= text.count("\n") + 1
        str(problem).encode()


def config_seeds() -> Iterator[bytes]:
    """The sample, whole and by its sections, each behind what every configuration needs."""
    text = CONFIGURATION.read_text()
    yield text.encode()
    needed = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
    uncommented = "\n".join(line.removeprefix("# ").removeprefix("#") for line in text.splitlines())
    for part in uncommented.split("\n\n"):
        yield (needed + part + "\n").encode()


# The state directory


def _state_file(data: bytes) -> None:
    """The snapshot and its journal, which begins after the first empty line."""
    file = StateFile(str(directory()), "feed.json")
    body, _, journal = data.partition(b"\n\n")
    file.path.write_bytes(body)
    file.journal_path(0).write_bytes(journal)
    saved = file.load()
    assert saved is None or not check_saved(saved)
    for path in directory().glob("feed.json*"):
        path.unlink()


def _saved(data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read_saved(data)


def _identity(data: bytes) -> None:
    (directory() / FILE).write_bytes(data)
    read_identity(str(directory()))


def _service_file(data: bytes) -> None:
    (directory() / service_file.NAME).write_bytes(data)
    ServiceFile(str(directory()), of=lambda _: None, boot_id=lambda: "b").load()


def _trial(data: bytes) -> None:
    (directory() / TRIAL).write_bytes(data)
    Trial(str(directory()), file="bgpd.toml", boot_id=lambda: "b")._read()


STATE: tuple[Callable[[bytes], object], ...] = (
    _state_file,
    _saved,
    _identity,
    _service_file,
    _trial,
    lambda data: list(SavedHealth().remember(data) or ()),
    saved_standing.read,
)


def run_state(data: bytes) -> None:
    """A file of the state directory, which the first byte chooses: it is read, or told to be unreadable."""
    if data:
        STATE[data[0] % len(STATE)](data[1:])


def _block(general: bytes, keyed: bytes, index: bytes) -> bytes:
    parts = index, zlib.compress(general, 1) if general else b"", zlib.compress(keyed, 1) if keyed else b""
    sums = zlib.crc32(parts[1], zlib.crc32(parts[0])), zlib.crc32(parts[2])
    head = _BLOCK.pack(*map(len, parts), *sums, 1.0, 2.0, 0)
    return b"".join((head, _SUM.pack(zlib.crc32(head)), *parts))


def run_history(data: bytes) -> None:
    """A file of the history. With an even first byte a block whose checksums are right, of an index, records that are
    about keys, and others (each behind its length); else what stands behind the file's head."""
    script = Script(data)
    is_block = not script.byte() & 1
    body = (
        _block(script.take(script.byte()), script.take(script.byte()), script.take(script.byte())) if is_block else b""
    )
    path = directory() / "000000000001.routes"
    path.write_bytes(segments._HEADER.pack(segments._MAGIC, segments.VERSION, 1) + body + script.rest())
    for segment in segments.segments_of(directory()):
        for found in segments.records_of(segment):
            assert found
    path.unlink()


@cache
def _journal() -> bytes:
    path = directory() / "template"
    file = JournalFile(path, max_bytes=1 << 20)
    file.open()
    fields = {"neighbor": "leaf1", "prefix": "10.1.0.0/16", "seconds": 1.5}
    file.append([EventView(sequence=one, at=one, level="info", event="session.up", fields=fields) for one in (1, 2, 3)])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    file.close()
    found = path.read_bytes()
    for one in directory().glob("template*"):
        one.unlink()
    return found


def run_journal(data: bytes) -> None:
    """The journal of events in which some bytes were changed: three say where, and to what."""
    damaged, script = bytearray(_journal()), Script(data)
    while not script.is_over:
        damaged[(script.byte() << 8 | script.byte()) % len(damaged)] = script.byte()
    path = directory() / "journal"
    path.write_bytes(damaged)
    with contextlib.suppress(JournalUnusable):
        for view in read_copy(path, Sought()):
            list(_event(msgspec.to_builtins(view), 0.0))
        read_copy(path, Sought(prefix="10.0.0.0/8", longer_prefixes=True))
    file = JournalFile(path, max_bytes=1 << 20)
    try:
        file.open()
        file.append([EventView(sequence=9, at=4.0, level="info", event="session.down", fields={})])
    except JournalUnusable:
        pass
    finally:
        file.close()
    for one in directory().glob("journal*"):
        one.unlink()


# Files of some lines


def _protocols(root: Path) -> None:
    assert all(name and name == name.strip() for name in names_of(217, root=str(root)))


LOCK = NamespaceLock(217, Path())._path().name
SMALL: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("password", lambda root: read_password_file(str(root / "password"))),
    ("token", lambda root: read_token(str(root / "token"))),
    ("both.pem", lambda root: server_context(str(root / "both.pem"), str(root / "both.pem"))),
    ("etc/machine-id", lambda root: machine_id(str(root))),
    ("etc/iproute2/rt_protos", _protocols),
    ("boot", has_run_since_boot),
    (LOCK, lambda root: NamespaceLock(217, root)._holder()),
)
"""Where each is below a directory, and who reads it there."""


def run_small(data: bytes) -> None:
    """A file that the first byte chooses: it is read, or what is wrong with it is told."""
    if not data:
        return
    name, read = SMALL[data[0] % len(SMALL)]
    root = directory() / "root"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(data[1:])
    try:
        read(root)
    except (BadPasswordFile, BadApiFile) as bad:
        str(bad).encode()
    finally:
        shutil.rmtree(root)


# The snapshot of a hand-over


_NAMES = tuple(SECTIONS)


def run_snapshot(data: bytes) -> None:
    """A section, which the first byte chooses, has these bytes, in a snapshot whose checksum is right: it is taken, or
    nothing is, with the reason."""
    if not data:
        return
    found: Inheritance = read({SNAPSHOT: snapshot.write({**SECTIONS, _NAMES[data[0] % len(_NAMES)]: data[1:]})})
    assert (found.daemon is None) == bool(found.problem)
    routes = found.routes()
    if routes is not None:
        found.tables(routes)
    found.moves()
    with contextlib.suppress(snapshot.SnapshotRefused):
        snapshot.unpack(data)


# MRT

_HOOKS: Any = Hooks(*(None,) * 3, _report_message, None)  # type: ignore[arg-type]
_HOPS = {1: bytes((192, 0, 2, 1)), 2: bytes(15) + b"\1", 25: bytes((192, 0, 2, 1))}


def run_mrt(data: bytes) -> None:
    """An MRT file is shown and said again, as far as it can be read."""
    try:
        for record in read_records(io.BytesIO(data)):
            with contextlib.suppress(ValueError):
                _said_again(record, 65201, _HOPS)
    except MalformedMrt as error:
        str(error).encode()
    path = directory() / "table.mrt"
    path.write_bytes(data)
    for as_json in (False, True):
        with contextlib.suppress(CommandFailed), contextlib.redirect_stdout(io.StringIO()) as said:
            mrt.show(argparse.Namespace(file=str(path), json=as_json), _HOOKS)
        said.getvalue().encode()


TARGETS = {
    "config": Target(run_config, config_seeds, messages=10),
    "state": Target(run_state),
    "history": Target(run_history),
    "journal": Target(run_journal),
    "small-files": Target(run_small),
    "snapshot": Target(run_snapshot),
    "mrt": Target(run_mrt),
}
