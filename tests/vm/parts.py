"""What the guest is made of: a kernel, a static busybox and a small C compiler of Debian's, and a library made with it.

The packages are downloaded once and unpacked into a cache; nothing is installed. Runs nothing of the guest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgpd-vm"
EXTENDED_STATE = Path(__file__).with_name("extended_state.c")


class NoGuest(Exception):
    """There can be no guest on this machine; the text says why."""


def unpacked(package: str) -> Path:
    """Folder of an unpacked Debian package, fetched once.

    Raises: NoGuest: it could not be fetched.
    """
    root = CACHE / package
    if root.is_dir():
        return root
    print(f"guest: downloading Debian's {package} into {CACHE}", file=sys.stderr)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        try:
            _download(package, folder)
            (archive,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, f"{folder}/unpacked"], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise NoGuest(f"Debian's package {package} could not be fetched: {error}") from error
        with contextlib.suppress(OSError):  # another guest was first
            Path(folder, "unpacked").rename(root)
    return root


def _download(package: str, folder: str) -> None:
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    if subprocess.run(fetch, cwd=folder, check=False).returncode:  # no package lists yet
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(fetch, cwd=folder, check=True)


def extended_state_library() -> Path:
    """The library that user-mode Linux needs on processors with AMX (extended_state.c says why), compiled once.

    It is used on every processor, so that there is one way to start a guest, and every run tries it.

    Raises: NoGuest: the compiler could not be fetched, or failed.
    """
    source = EXTENDED_STATE.read_bytes()
    library = CACHE / f"extended_state-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = unpacked("tcc")
    (own_files,) = compiler.glob("usr/lib/*/tcc")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder, "library.so")
        command = [compiler / "usr/bin/tcc", f"-B{own_files}", "-nostdlib", "-shared", "-o", made, EXTENDED_STATE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoGuest(f"{EXTENDED_STATE.name} could not be compiled: {done.stderr.strip()}")
        made.rename(library)
    return library
