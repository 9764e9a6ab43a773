"""Whether bgpd has run since the host booted: what it had the kernel forward was not lost meanwhile."""

from __future__ import annotations

from pathlib import Path

from bgpd.runtime.events import log
from bgpd.runtime.files import replace_file

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAME = "boot"


def boot_id() -> str:
    """Which start of the host this is. Raises: OSError."""
    return BOOT_ID.read_text().strip()


def has_run_since_boot(directory: Path, *, boot_id: Path = BOOT_ID) -> bool:
    """Whether this was asked before, with the same directory, since the host booted. Blocks for the disk."""
    try:
        now = boot_id.read_bytes()
        path = directory / _NAME
        if path.exists() and path.read_bytes() == now:
            return True
        replace_file(path, now)
    except OSError as error:
        log.warning("boot.unknown", error=str(error))
    return False
