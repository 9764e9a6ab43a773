"""`python3 check_python.py PREFIX [PLACE]`: whether the service can run this Python from a virtual environment there.

PLACE is where it is built, if that is not PREFIX (DESTDIR). `make install` asks, so that a Python which only root can
read (pyenv below root's home, say) is refused with the reason, and not installed into a unit that fails with status
203. Exit code 1 with the reason on standard error.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LEAST = (3, 11)
HIDDEN = ("/home", "/root", "/run/user")
"""What the unit's ProtectHome hides."""


def problems(prefix: Path, used: list[Path], version: tuple[int, ...]) -> Iterator[str]:
    """Why the service's user could not run a Python that uses these files, from `prefix`."""
    if version[:2] < LEAST:
        yield f"Python {'.'.join(map(str, version[:3]))} is too old: bgpd needs {'.'.join(map(str, LEAST))} or newer"
    for path in (prefix, *used):
        hidden = next((place for place in HIDDEN if path.is_relative_to(place)), "")
        if hidden:
            yield f"{path} is below {hidden}, which the service does not see (ProtectHome in its unit)"
            continue
        for part in (path, *path.parents):
            if part.exists() and not _others_may(part):
                yield f"{path} cannot be used by the service's user: {part} is closed to it (mode {_mode(part)})"
                break


def wrong_place(prefix: Path, place: Path) -> Iterator[str]:
    """Why there may be no virtual environment at `place`."""
    if not prefix.is_absolute():
        yield f"PREFIX {prefix} must be an absolute path"
    elif place.exists() and any(place.iterdir()) and not (place / "pyvenv.cfg").exists():
        yield f"{place} has other things in it: bgpd needs a directory of its own, such as /opt/bgpd"


def _others_may(path: Path) -> bool:
    mode = path.stat().st_mode
    needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
    return mode & needed == needed


def _mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def main() -> int:
    """Exit code 1, with what is wrong and what to do, if the Python cannot be used."""
    prefix, place = Path(sys.argv[1]), Path(sys.argv[-1])
    used = [Path(os.path.realpath(sys.executable)), Path(os.path.realpath(sysconfig.get_path("stdlib")))]
    found = [*wrong_place(prefix, place), *problems(prefix, used, tuple(sys.version_info[:3]))]
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print("another Python: make install INSTALL_PYTHON=/usr/bin/python3; another place: PREFIX=", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
