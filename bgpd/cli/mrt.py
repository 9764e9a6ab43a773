"""`bgpd mrt dump` and `bgpd mrt show`: the daemon's routes as an MRT file (RFC 6396), and what such a file has."""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from bgpd.cli.client import Client, CommandFailed, WrongUsage
from bgpd.cli.decode import DecodeOptions, Hooks
from bgpd.cli.progress import progress
from bgpd.message.mrt import (
    MalformedMrt,
    MessageRecord,
    MrtPeer,
    PeerIndex,
    Record,
    RibEntry,
    RibRecord,
    SessionState,
    read_records,
)
from bgpd.message.mrt_attributes import next_hop_of, split_attributes, update_message, value_of
from bgpd.model.as_path import as_path_text, pack_as_path, unpack_as_path
from bgpd.model.iana import AttributeType
from bgpd.model.prefix import format_address

_PACKED: Mapping[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
_WHAT_IS_READ = "name an MRT file (RFC 6396), which may be packed by gzip, bzip2 or xz"
_OTHER_TYPES = {11: "OSPFv2", 12: "TABLE_DUMP", 13: "TABLE_DUMP_V2", 16: "BGP4MP", 17: "BGP4MP_ET", 32: "ISIS"}
_STATES = {int(state): state.name.lower() for state in SessionState}


def dump(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """The routes of a VRF into a file, which is there only once it is whole; "-" is standard output."""
    parts = Client(arguments.socket).stream("GET", "/v1/mrt", {"vrf": arguments.vrf})
    if arguments.file == "-":
        if arguments.json:
            raise WrongUsage("the routes go to standard output, where --json would stand", "name a file")
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return 0
    path, size = Path(arguments.file), 0
    try:
        with progress.of(lambda: f"{size:,} bytes"):
            for size in _write(path, parts):  # noqa: B007  # it is shown meanwhile
                pass
    except OSError as error:
        raise CommandFailed(
            f"{path} cannot be written: {error.strerror}", "name a file in a directory that you may write to"
        ) from None
    if arguments.json:
        print(json.dumps({"file": str(path), "bytes": size, "missing": {}}, indent=1))
    else:
        print(f"{path}: {size:,} bytes")
    return 0


def _write(path: Path, parts: Iterator[bytes]) -> Iterator[int]:
    """How many bytes it has, after each part. A device or a pipe is written itself, and never replaced."""
    is_file = path.is_file() or not path.exists()
    first = path.with_name(path.name + ".part") if is_file else path
    try:
        size = 0
        if is_file:
            first.unlink(missing_ok=True)  # in /tmp it may be another user's link, which root would follow
        flags = os.O_WRONLY | (os.O_CREAT | os.O_EXCL if is_file else 0)
        with open(os.open(first, flags, 0o666), "wb") as file:
            for part in parts:
                size += file.write(part)
                yield size
        if is_file:
            first.replace(path)
    finally:
        if is_file:
            with contextlib.suppress(OSError):
                first.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Iterator[Record]]:
    """The records of an MRT file, "-" for standard input, which may be packed. What is passed over is told at the end.

    Raises: CommandFailed: also while they are read.
    """
    passed_over: Counter[tuple[int, int]] = Counter()
    try:
        with _file(name) as file:
            begin = file.peek(6)
            unpacked = next((unpack for magic, unpack in _PACKED.items() if begin.startswith(magic)), lambda file: file)
            yield read_records(cast(BinaryIO, unpacked(cast(BinaryIO, file))), passed_over)
    except MalformedMrt as error:
        raise CommandFailed(f"{name}: {error}", _WHAT_IS_READ) from None
    except OSError as error:
        if error.errno is None:  # of gzip or bz2
            raise _damaged(name, error) from None
        if error.filename is None:
            raise
        raise CommandFailed(f"{name}: {error.strerror}", "name an MRT file that you may read") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(name, error) from None
    if passed_over:
        types = ", ".join(f"{count:,} of {_type_text(*what)}" for what, count in passed_over.most_common(5))
        print(f"{passed_over.total():,} records of types that are not read were passed over: {types}", file=sys.stderr)


def _file(name: str) -> contextlib.AbstractContextManager[io.BufferedReader]:
    """It may be a pipe: it cannot be read from its beginning again."""
    if name == "-":
        return contextlib.nullcontext(cast(io.BufferedReader, sys.stdin.buffer))
    return open(name, "rb")


def _damaged(name: str, error: Exception) -> CommandFailed:
    return CommandFailed(f"{name}: damaged: {error}", "it was cut short, or is no packed file: fetch it again")


def _type_text(kind: int, subtype: int) -> str:
    return f"{_OTHER_TYPES.get(kind, 'type')} ({kind}) subtype {subtype}"


def show(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """One line for each path and message of a file; with --json all that bgpd's decoder makes of it."""
    peers: list[MrtPeer] = []
    with opened(arguments.file) as records:
        for record in records:
            match record:
                case PeerIndex():
                    peers = record.peers
                case RibRecord():
                    for entry in record.entries:
                        peer = peers[entry.peer] if entry.peer < len(peers) else MrtPeer(b"", b"", 0)
                        _print_path(record, entry, peer, hooks, as_json=arguments.json)
                case MessageRecord():
                    _print_message(record, hooks, as_json=arguments.json)
    return 0


def _print_path(record: RibRecord, entry: RibEntry, peer: MrtPeer, hooks: Hooks, *, as_json: bool) -> None:
    try:
        attributes = list(split_attributes(entry.attributes))
        hop = next_hop_of(attributes)
        seen = hop if any(hop) else (b"\x7f\0\0\1" if record.afi == 1 else bytes(15) + b"\1")
        message = update_message(record.afi, record.safi, record.nlri, entry.attributes, next_hop=seen)
    except ValueError as error:
        raise CommandFailed(f"a path of {record.nlri.hex()} is malformed: {error}", _WHAT_IS_READ) from None
    report = _report(message, hooks)
    routes = report["announced"] or report["withdrawn"]
    route = next(iter(next(iter(routes.values()), [])), record.nlri.hex())
    shown = {
        "at": entry.originated_at,
        "peer": format_address(peer.address) if peer.address else "",
        "peer_asn": peer.asn,
        "route": route,
        "next_hop": _address_text(hop),
        "attributes": report["attributes"],
    }
    if as_json:
        print(json.dumps(shown))
        return
    path = next((value_of(one) for kind, one in attributes if kind == AttributeType.AS_PATH), b"")
    text = route if isinstance(route, str) else json.dumps(route)
    print(
        f"{_time(entry.originated_at)} {shown['peer']} AS{peer.asn} {text} by {shown['next_hop']} "
        f"as-path {_path_text(path)}"
    )


def _print_message(record: MessageRecord, hooks: Hooks, *, as_json: bool) -> None:
    head = {"at": record.at, "peer": format_address(record.peer.address), "peer_asn": record.peer.asn}
    before, after = (_STATES.get(one, str(one)) for one in record.states)
    if as_json:
        what = {"message": _report_of(record, hooks)} if record.message else {"states": [before, after]}
        print(json.dumps({**head, **what}))
        return
    text = f"{_time(record.at)} {head['peer']} AS{record.peer.asn} "
    if not record.message:
        print(f"{text}{before} to {after}")
        return
    report = _report_of(record, hooks)
    words = [report["type"]]
    for sign, routes in (("+", report["announced"]), ("-", report["withdrawn"])):
        words += (
            f"{sign}{route if isinstance(route, str) else json.dumps(route)}"
            for one in routes.values()
            for route in one
        )
    print(text + " ".join(words))


def _report_of(record: MessageRecord, hooks: Hooks) -> dict[str, Any]:
    return _report(record.message, hooks, two_octet_as=not record.four_octet_as, add_path=record.add_path)


def _report(message: bytes, hooks: Hooks, *, two_octet_as: bool = False, add_path: bool = False) -> dict[str, Any]:
    """What the decoder makes of it, for a session with all that a message may use: which had it, no file says."""
    options = DecodeOptions(session="ibgp", two_octet_as=two_octet_as, add_path=add_path, extended_next_hop=True)
    report: dict[str, Any] = json.loads(hooks.report_message(message.hex(), options))
    return report


def _path_text(packed: bytes) -> str:
    """In hexadecimal if it is malformed: of such a path no part is to be taken for the whole."""
    try:
        if pack_as_path(unpack_as_path(packed)) == packed:
            return as_path_text(packed) or "(empty)"
    except (ValueError, IndexError, struct.error):
        pass
    return f"0x{packed.hex()}"


def _address_text(packed: bytes) -> str:
    return format_address(packed[:16]) if len(packed) in (4, 16, 32) else packed.hex()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(sep=" ", timespec="seconds")
