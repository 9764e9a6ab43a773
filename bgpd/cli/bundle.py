"""`bgpd bundle`: all that a developer needs to see what is wrong on a host, in one archive without secrets.

Works also without the daemon, and with whatever cannot be had left out: what is missing has its reason in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bgpd import __version__
from bgpd.cli.client import Client, CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.progress import progress
from bgpd.config.redaction import redacted, redacted_text

MOST_BYTES = 8 * 1024 * 1024
"""Of one part; what is more is cut off."""
PROGRAM_TIMEOUT_S = 20.0
_VIEWS: dict[str, str] = {
    "status.json": "/v1/health",
    "overview.json": "/v1/overview",
    "neighbors.json": "/v1/neighbors",
    "bfd.json": "/v1/bfd",
    "fib.json": "/v1/fib?limit=5000",
    "fib-failed.json": "/v1/fib?state=failed&limit=5000",
    "fib-blocked.json": "/v1/fib?state=blocked&limit=5000",
    "workloads.json": "/v1/workloads?limit=5000",
    "services.json": "/v1/services?limit=5000",
    "aggregates.json": "/v1/aggregates",
    "vrfs.json": "/v1/vrfs",
    "drain.json": "/v1/drain",
    "upgrade.json": "/v1/upgrade",
    "interfaces.json": "/v1/interfaces",
    "config.json": "/v1/config",
    "events.json": "/v1/events?limit=10000",
}
_PROGRAMS: dict[str, tuple[str, ...]] = {
    "kernel/links.txt": ("ip", "-d", "-s", "link", "show"),
    "kernel/addresses.txt": ("ip", "addr", "show"),
    "kernel/neighbors.txt": ("ip", "neigh", "show"),
    "kernel/rules4.txt": ("ip", "-4", "rule", "show"),
    "kernel/rules6.txt": ("ip", "-6", "rule", "show"),
    "kernel/routes4.txt": ("ip", "-N", "-4", "route", "show", "table", "all"),
    "kernel/routes6.txt": ("ip", "-N", "-6", "route", "show", "table", "all"),
    "kernel/nexthops.txt": ("ip", "-N", "-d", "nexthop", "show"),
    "kernel/sockets.txt": ("ss", "-tnpom", "sport = :179 or dport = :179"),  # with -i it shows the keys of TCP MD5
    "kernel/sysctl.txt": ("sysctl", "-e", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "kernel.osrelease"),
    "log.txt": ("journalctl", "-u", "bgpd", "-u", "bgpd-bfd", "-n", "5000", "--no-pager", "-o", "short-iso-precise"),
    "unit.txt": ("systemctl", "--no-pager", "status", "bgpd", "bgpd-bfd"),
}
_FILES = {
    "kernel/meminfo.txt": "/proc/meminfo",
    "kernel/loadavg.txt": "/proc/loadavg",
    "os-release.txt": "/etc/os-release",
}


def bundle(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """Writes the archive, readable by its owner only; it takes its name when it is whole."""
    name = arguments.file or f"bgpd-bundle-{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    path = Path(name)
    part = path.with_name(path.name + ".part")
    if path.exists() and not path.is_file():
        raise CommandFailed(f"{path} is no file", "give the name of a new file")
    missing: list[str] = []
    try:
        part.unlink(missing_ok=True)  # in /tmp it may be another user's, who would read what root writes
        with (
            open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive,
            progress.of("gathering"),
        ):
            _fill(archive, Client(arguments.socket), arguments.reason, missing)
        part.replace(path)
    except OSError as error:
        raise CommandFailed(
            f"{path} cannot be written: {error.strerror}", "name a file in a directory that you may write to"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    causes: dict[str, list[str]] = {}
    for one in missing:
        what, _, why = one.partition(": ")
        causes.setdefault(why, []).append(what)
    if arguments.json:
        print(json.dumps({"file": str(path), "bytes": path.stat().st_size, "missing": causes}, indent=1))
        return 0
    print(
        f"{path}: {path.stat().st_size:,} bytes; secrets are left out, addresses and names are not: look into it first"
    )
    for why, those in causes.items():
        print(f"bgpd: not in it, since {why}: {', '.join(those)}", file=sys.stderr)
    return 0


def _fill(archive: tarfile.TarFile, client: Client, reason: str, missing: list[str]) -> None:
    began = time.time()
    for name, text in _parts(client, reason, missing):
        data = text.encode(errors="backslashreplace")
        if len(data) > MOST_BYTES:
            data = data[:MOST_BYTES] + b"\n... cut off here\n"
        info = tarfile.TarInfo(f"bgpd-bundle/{name}")
        info.size, info.mtime, info.mode = len(data), int(began), 0o600
        archive.addfile(info, io.BytesIO(data))


def _parts(client: Client, reason: str, missing: list[str]) -> Iterator[tuple[str, str]]:
    yield "about.json", json.dumps(_about(reason), indent=1)
    for name, target in _VIEWS.items():
        yield name, _view(client, target, missing)
    yield "metrics.txt", _text(client, "/metrics", missing)
    for name, command in _PROGRAMS.items():
        yield name, _said_by(command, missing)
    for name, file in _FILES.items():
        with contextlib.suppress(OSError):
            yield name, Path(file).read_text(errors="replace")


def _about(reason: str) -> dict[str, object]:
    packages = ("exabgp", "aiomqtt", "msgspec", "h11", "pyroute2", "google-re2")
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "bgpd": __version__,
        "reason": reason,
        "taken_at": time.time(),
        "python": sys.version,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": versions,
    }


def _view(client: Client, target: str, missing: list[str]) -> str:
    text = _text(client, target, missing)
    try:
        value = json.loads(text)
    except ValueError:  # it was cut off, or is an error
        return redacted_text(text)
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(redacted(one)) for one in value) + "\n]\n"
    return json.dumps(redacted(value), indent=1) + "\n"


def _text(client: Client, target: str, missing: list[str]) -> str:
    try:
        data = bytearray()
        for chunk in client.stream("GET", target, accepted=(503,)):
            data += chunk
            if len(data) > 4 * MOST_BYTES:
                break
        return data.decode(errors="replace")
    except CommandFailed as error:
        missing.append(f"{target}: {str(error).partition(chr(10))[0]}")
        return f"{error}\n"


def _said_by(command: tuple[str, ...], missing: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROGRAM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        missing.append(f"{' '.join(command)}: {getattr(error, 'strerror', None) or 'it did not end in time'}")
        return f"{' '.join(command)}: {error}\n"
    said = done.stdout[-MOST_BYTES:]
    if len(done.stdout) > MOST_BYTES:
        said = said.partition(b"\n")[2]  # a secret without what is before it would not be seen as one
    output = said + done.stderr[-4096:]
    return redacted_text(f"$ {' '.join(command)}\n" + output.decode(errors="replace"))
