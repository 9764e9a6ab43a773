"""Targets: what is read from files: the configuration, the state directory, the snapshot of a hand-over, MRT."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import socket
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
from bgpd.config import check, check_guests, check_sessions, check_vrfs, load, shape, toml_errors, toml_lines
from bgpd.config.check_api import BadApiFile, read_token, server_context
from bgpd.config.facts import Facts, machine_id
from bgpd.config.identity import FILE, resolve
from bgpd.config.load import ConfigError, Loaded, parse_config
from bgpd.config.password_file import BadPasswordFile, read_password_file
from bgpd.fib.protocol import names_of
from bgpd.fib.saved import SavedKernelTable
from bgpd.handover import snapshot
from bgpd.history import segments
from bgpd.history.blocks import _BLOCK, _SUM, block, blocks, encoded, read_block
from bgpd.history.records import BaseBegan, BaseEnded, Heard, Lost
from bgpd.inheritance import SNAPSHOT, Inheritance, _read, read
from bgpd.journal.store import JournalFile, JournalUnusable, Sought, read_copy
from bgpd.message import mrt as message_mrt
from bgpd.message import mrt_attributes
from bgpd.message.exabgp_codec import encode_message
from bgpd.message.mrt import (
    MalformedMrt,
    MrtPeer,
    RibEntry,
    message_record,
    peer_index_table,
    read_records,
    rib_record,
    state_change,
)
from bgpd.model import policy_syntax
from bgpd.model.iana import Family, MessageType
from bgpd.model.identity import Chosen, Identity, Origin
from bgpd.model.service import Service
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.utf8 import as_json
from bgpd.model.views.host import EventView
from bgpd.model.workload import Workload
from bgpd.runtime.boot import has_run_since_boot
from bgpd.runtime.lock import NamespaceLock
from bgpd.speaker import left_sessions
from bgpd.speaker.saved import SavedSpeaker
from bgpd.trial import COPY, Trial, Tried
from bgpd.trial import NAME as TRIAL
from bgpd.workload.feed.saved import Change, Saved, check_saved, read_saved
from bgpd.workload.feed.state_file import StateFile
from bgpd.workload.service import saved_standing, service_file
from bgpd.workload.service.saved_health import SavedHealth
from bgpd.workload.service.service_file import ServiceFile
from tests.fuzz.left import filled_rib, service_state
from tests.fuzz.target import Script, Target, directory
from tests.handover.sections import SECTIONS
from tests.message.decoding import GLOBAL, MANDATORY, update
from tests.message.test_plain_updates import EVPN_ROUTES
from tests.rib.build import configuration
from tests.rib.build import session as neighbor
from tests.speaker.test_left_sessions import session as left_session

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
    """The sample, and its sections with all their keys, each behind what every configuration needs."""
    text = CONFIGURATION.read_text()
    yield text.encode()
    needed = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
    policy = '[policy.vm-routers]\nrules = [{ action = "accept" }]\n'
    for part in re.sub(r"(?m)^#(?=\S)", "", text).split("\n\n"):
        part = "\n".join(line for line in part.splitlines() if "password_file" not in line)
        if "\n[" in f"\n{part}":
            yield (needed * ("[router]" not in part) + policy * ("[policy" not in part) + part + "\n").encode()
    yield (
        needed.replace('"10.255.1.1"', '"auto"').replace("65203", '"auto"') + 'hostname = "${hostname}-${env:A}"\n'
    ).encode()
    yield MATCHES.encode()


MATCHES = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = "external"
import = "p"
families = ["ipv4-unicast", "ipv6-unicast", "l2vpn-evpn"]
[[policy.p.rules]]
match = { prefix = ["10.0.0.0/8 ge 9 le 24"], as_path = [65201, "^65300"], community = ["65000:1", "no-export"] }
set = { local_pref = 200, med = 7, prepend = 2, add_community = ["65000:2"], remove_large_community = ["1:2:3"] }
action = "next"
[[policy.p.rules]]
match = { extended_community = ["rt:65000:1", "soo:10.0.0.1:7", "0102030405060708"], next_hop = ["10.0.1.2"] }
set = { add_extended_community = ["rt:65000:1"], add_large_community = ["65000:1:2"] }
action = "reject"
"""
"""A policy with each kind of condition and action."""


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


def _service_file(data: bytes) -> None:
    (directory() / service_file.NAME).write_bytes(data)
    ServiceFile(str(directory()), of=lambda _: None, boot_id=lambda: "b").load()


LOADED = Loaded(configuration(neighbor("leaf1")), [], ("bgpd.toml",), {}, Identity())


def _trial(data: bytes) -> None:
    """A process starts with it, tells of it, and goes back."""
    for name in (TRIAL, COPY):
        (directory() / name).write_bytes(data)
    trial = Trial(str(directory()), file="bgpd.toml", boot_id=lambda: "b")
    loaded = trial.at_start(LOADED)
    as_json((trial.until, trial.left_s, trial.warnings()))
    if trial.now is not None:
        trial.go_back(loaded)
        as_json(trial.warnings())
    trial.end()


def _saved_health(data: bytes) -> None:
    saved = SavedHealth()
    saved.remember(data)
    as_json([(id, health.reason, health.since) for id, _, health in saved.left()])


def _identity_of(data: bytes) -> None:
    """What was chosen before is kept, or chosen anew."""
    (directory() / FILE).write_bytes(data)
    router = {"asn": "auto", "router_id": "auto"}
    facts = Facts(hostname="h", machine_id="0123456789abcdef0123456789abcdef")
    resolved = resolve({"router": router, "state": {"directory": str(directory())}}, facts, Identity())
    assert isinstance(router["asn"], int)
    msgspec.json.encode((resolved.identity, resolved.warnings))


STATE: tuple[Callable[[bytes], object], ...] = (
    _state_file,
    _saved,
    _identity_of,
    _service_file,
    _trial,
    _saved_health,
    saved_standing.read,
)


def run_state(data: bytes) -> None:
    """A file of the state directory, which the first byte chooses: it is read, or told to be unreadable."""
    if data:
        STATE[data[0] % len(STATE)](data[1:])


def state_seeds() -> Iterator[bytes]:
    """A file of each kind, as bgpd writes it."""
    workloads = {"vm7": Workload(addresses=("10.64.1.5",), interface="pod1")}
    saved = Saved(generation=7, epoch="a", workloads=workloads, workload_ranks={"vm7": {"10.64.1.5": 2}})
    change = Change(workloads={"vm7": None}, services={"web": Service(addresses=("10.64.9.1",))})
    body = msgspec.json.encode(saved)
    yield b"\0" + body + b"\n\n" + msgspec.json.encode(change) + b"\n" + msgspec.json.encode(change)[:9]
    yield b"\1" + body
    chosen = Chosen(value="10.7.8.9", origin=Origin.HOSTNAME, of="h")
    yield b"\2" + msgspec.json.encode(Identity(asn=chosen, router_id=chosen))
    for reason in ("", "down"):
        known = service_state(reason)
        yield b"\3" + msgspec.json.encode({"boot_id": "b", "services": {"web": known}})
        yield b"\5" + msgspec.msgpack.encode(known.health)
        yield b"\6" + msgspec.msgpack.encode({"web": known.standing})
    for is_over in (False, True):
        tried = Tried(
            until=4e9, boot_id="b", boot_until=4e9, tried=LOADED.config, former=LOADED.config, is_over=is_over
        )
        yield b"\4" + msgspec.json.encode(tried)


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


def history_seeds() -> Iterator[bytes]:
    """A block of records of a base, and one of what a neighbor said."""
    heard = encoded(Heard(2.0, 1, [bytes(4)]), [b"\x08\x0a"])
    whole = block([BaseBegan(1.0, b"", [], []), heard, Lost(3.0, ""), BaseEnded(4.0)], ends_base=True)
    yield b"\1" + whole
    yield b"\1" + whole + block([heard], ends_base=False)


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


def small_seeds() -> Iterator[bytes]:
    """Each with a line that is right, and one that is not."""
    for number in range(len(SMALL)):
        for text in (b"0123456789abcdef0123456789abcdef\n", b"217\tbgpd # x\n0xd9 bgp\n", b"x" * 90, b"7\n"):
            yield bytes((number,)) + text


# The snapshot of a hand-over


_NAMES = tuple(SECTIONS)
_SESSION = "session-1"


def run_snapshot(data: bytes) -> None:
    """A section, which the first byte chooses, has these bytes, in a snapshot whose checksum is right: it is taken, or
    nothing is, with the reason. The socket of one session comes with it."""
    if not data:
        return
    ours, theirs = socket.socketpair()
    memory = snapshot.write({**SECTIONS, _NAMES[data[0] % len(_NAMES)]: data[1:]})
    found: Inheritance = read({SNAPSHOT: memory, _SESSION: ours.detach()})
    assert (found.daemon is None) == bool(found.problem)
    for one in found.sessions.sessions:
        one.keep_alive()
        with contextlib.suppress(*UNREADABLE):
            msgspec.msgpack.encode((one.saved, one.saved.settings))
    for wait in found.sessions.waits.values():
        with contextlib.suppress(*UNREADABLE):
            msgspec.msgpack.encode(wait.settings)
    routes = found.routes()
    if routes is not None:
        found.tables(routes)
    found.moves()
    found.gateways()
    as_json(found.view())
    found.sessions.close()
    theirs.close()
    with contextlib.suppress(snapshot.SnapshotRefused):
        snapshot.unpack(data)


def snapshot_seeds() -> Iterator[bytes]:
    """Sections of a process that had something to leave."""
    sessions = [msgspec.msgpack.encode(left_session("leaf1", number)) for number in (1, 2)]
    wait = msgspec.msgpack.encode({"name": "leaf2"})
    left = {
        "speaker": msgspec.msgpack.encode(SavedSpeaker([*sessions, b"\x80"], [wait], [], ["session"])),
        "rib": msgspec.msgpack.encode(filled_rib()),
        "base": msgspec.msgpack.encode(filled_rib()),
        "kernel": msgspec.msgpack.encode({"": SavedKernelTable(254, 217, 20, {}, {})}),
        "moves": msgspec.msgpack.encode([]),
        "gateways": msgspec.msgpack.encode([]),
    }
    for name, section in (*SECTIONS.items(), *left.items()):
        yield bytes((_NAMES.index(name),)) + section
    yield snapshot.pack(SECTIONS)


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
    for machine_readable in (False, True):
        said = io.StringIO()
        with contextlib.suppress(CommandFailed), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            mrt.show(argparse.Namespace(file=str(path), json=machine_readable), _HOOKS)
        said.getvalue().encode()


def mrt_seeds() -> Iterator[bytes]:
    """A table of two peers, and what a session said."""
    peers = [MrtPeer(bytes((10, 0, 0, 1)), bytes((10, 0, 1, 2)), 65201), MrtPeer(bytes((10, 0, 0, 2)), GLOBAL, 65202)]
    entry = RibEntry(0, 1, MANDATORY)
    table = peer_index_table(1.0, collector=bytes(4), view="v", peers=peers)
    for family, nlri in ((Family.IPV4_UNICAST, b"\x18\x0a\1\2"), (Family.L2VPN_EVPN, EVPN_ROUTES[0])):
        table += rib_record(2.0, 1, family, nlri, [entry, entry._replace(peer=1)])
    yield table
    said = encode_message(MessageType.UPDATE, update(MANDATORY, b"\x18\x0a\1\2"))
    for four in (True, False):
        yield message_record(3.0, peers[0], peers[0], said, four_octet_as=four)
    yield state_change(4.0, peers[0], peers[0], (5, 6))


TARGETS = {
    "config": Target(
        run_config,
        (check, check_sessions, check_vrfs, check_guests, load, shape, toml_errors, toml_lines, policy_syntax),
        config_seeds,
        messages=10,
    ),
    "state": Target(
        run_state,
        (read_saved, check_saved, StateFile.load, StateFile._replay, resolve, Trial.at_start, SavedHealth.remember),
        state_seeds,
    ),
    "history": Target(
        run_history, (segments._looked_at, segments._records_in, read_block, blocks, segments._head), history_seeds
    ),
    "journal": Target(run_journal, (JournalFile._opened, JournalFile.append, JournalFile._write, read_copy)),
    "small-files": Target(
        run_small, (read_password_file, read_token, machine_id, names_of, has_run_since_boot), small_seeds
    ),
    "snapshot": Target(run_snapshot, (_read, Inheritance, left_sessions._of, snapshot.unpack), snapshot_seeds),
    "mrt": Target(
        run_mrt,
        (read_records, message_mrt._parsed, message_mrt._rib, mrt.show, mrt._print_path, _said_again, mrt_attributes),
        mrt_seeds,
    ),
}
