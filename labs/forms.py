"""The two forms of bgpd: as plain Python from this repository, and compiled, as users get it.

The editable installation of .venv is plain. The compiled form is the wheel, built when a source has changed, and
unpacked where tests, benchmarks and the laboratory can run the daemon from it, with byte code as an installed one has.
`python -m labs.forms` makes it and prints its folder.
"""

from __future__ import annotations

import compileall
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from labs.process import LabError

REPOSITORY = Path(__file__).parent.parent
_DIST = REPOSITORY / "dist"
_COMPILED = _DIST / "compiled"
"""The wheel, unpacked."""
_STAMP = ".built-from"
_SOURCES = {".py", ".html", ".css", ".js", ".svg"}


class NotCompiled(LabError):
    """This machine lacks what compiling needs; the text says what."""


@functools.cache
def compiled_form() -> Path:
    """The folder with the compiled form of the present sources, made if it is not there.

    Raises: NotCompiled: something is missing here. LabError: a module cannot be compiled.
    """
    _DIST.mkdir(exist_ok=True)
    with (_DIST / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest()
        stamp = _COMPILED / _STAMP
        if not stamp.exists() or stamp.read_text() != digest:
            _unpack(_build())
            stamp.write_text(digest)
    return _COMPILED


def form_environment(folder: Path) -> list[str]:
    """["NAME=VALUE", ...] with which a Python, and those that it starts, take bgpd from `folder`, wherever they run."""
    return ["PYTHONSAFEPATH=1", f"PYTHONPATH={folder}{os.pathsep}{REPOSITORY}"]


def _digest() -> str:
    """Of all that the compiled form depends on."""
    files = sorted(path for path in (REPOSITORY / "bgpd").rglob("*.*") if path.suffix in _SOURCES)
    files += [REPOSITORY / name for name in ("pyproject.toml", "hatch_build.py", "requirements.lock")]
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _build() -> Path:
    """A new wheel in dist/."""
    for old in _DIST.glob("bgpd-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(_DIST)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    wheels = list(_DIST.glob("bgpd-*.whl"))
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not line.endswith(".whl"))
    if done.returncode or not wheels or "compiling failed" in said:
        raise LabError(f"the wheel cannot be built:\n{said}")
    if wheels[0].name.endswith("-none-any.whl"):
        raise NotCompiled(said.strip())
    return wheels[0]


def _unpack(wheel: Path) -> None:
    if _COMPILED.exists():
        shutil.rmtree(_COMPILED)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(_COMPILED)
    compileall.compile_dir(_COMPILED, quiet=1)  # as pip does: byte code that is made at each start takes memory, too


def main() -> int:
    """Runs the command line; the exit status."""
    try:
        print(compiled_form().relative_to(REPOSITORY))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
