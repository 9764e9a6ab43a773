"""Hatchling's hook: which version is built, and the modules that pyproject.toml lists compiled with mypyc, where that
is possible.

The wheel has the source of each compiled module beside it: tracebacks show it, and a Python for which nothing was
compiled runs it. Where mypy, a C compiler or Python's headers are missing, or compiling fails, the wheel is plain
Python, and one line says why. An editable installation is always plain Python.

`python hatch_build.py FOLDER MODULE...`, which the hook runs, compiles in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "bgpd.compiled"
"""All compiled modules are in one library, bgpd/compiled__mypyc.*.so, so that they call each other directly; each has
a small one of its own, by which it is imported. bgpd/runtime/form.py looks for the library."""
EMPTY_SLICES = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static inline PyObject *slice_of_bytes(const char *start, Py_ssize_t size) {
    return PyBytes_FromStringAndSize(start, size < 0 ? 0 : size);
}
#define PyBytes_FromStringAndSize slice_of_bytes
"""
"""Included before all C: a slice of bytes that ends before it starts is b"" in Python, and a SystemError in mypyc's
CPyBytes_GetSlice (2.4), which asks for a negative size. Lengths that neighbors send lead there."""
NOTICE = "bgpd is built as plain Python:"


ROOT = Path(__file__).resolve().parent
VERSION_FILE = "bgpd/__init__.py"
_VERSION = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
_DESCRIBED = re.compile(r"v(\d[\w.]*)-(\d+)-g([0-9a-f]+)(-dirty)?")
"""What `git describe --long` says: the last tag, the commits since, this commit."""


def version() -> str:
    """The version of what is built.

    1.2.3 for the commit with the tag v1.2.3; five commits later 1.2.3.post5+g01234567, with ".dirty" where files have
    changed since. Where git knows no tag (a clone may lack them), the version that bgpd/__init__.py has, as
    1.2.3.dev846+g01234567: 846 commits in all. Where there is no git, that version. BGPD_VERSION in the environment
    counts before all: for builds that see the files only, as those of images do.
    """
    if told := os.environ.get("BGPD_VERSION"):
        return told
    written = written_version()
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return written
    described = _git("describe", "--tags", "--match", "v[0-9]*", "--long", "--dirty", "--abbrev=8")
    if found := _DESCRIBED.fullmatch(described):
        tag, commits, commit, dirty = found.groups()
        if commits == "0" and not dirty:
            return tag
        return f"{tag}.post{commits}+g{commit}{'.dirty' if dirty else ''}"
    commits, commit = _git("rev-list", "--count", "HEAD"), _git("describe", "--always", "--dirty", "--abbrev=8")
    return f"{written}.dev{commits}+g{commit.replace('-', '.')}" if commits and commit else written


def written_version() -> str:
    """The one in bgpd/__init__.py: that of the last release, or of the next one before the first."""
    found = _VERSION.search((ROOT / VERSION_FILE).read_text())
    if found is None:
        raise ValueError(f"{VERSION_FILE} has no line __version__ = ...")
    return found[1]


def _git(*words: str) -> str:
    """What git says of this repository, whoever owns its files; "" if it has no answer."""
    command = ["git", "-c", f"safe.directory={ROOT}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def what_is_missing() -> str:
    """What compiling needs and this machine lacks; "" if nothing."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_config_var("INCLUDEPY") or "", "Python.h")
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        return "mypy and setuptools are not in the build's environment"
    if shutil.which(compiler) is None:
        return f"there is no C compiler {compiler} (Debian: gcc, libc6-dev, python3-dev)"
    if not headers.exists():
        return f"there is no {headers} (Debian: python3-dev)"
    return ""


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    """For sdist and wheel; `modules` in its table of pyproject.toml are the files to compile for the latter."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before files are put together."""
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="bgpd-build-"))
        self._put_version(self._folder / "version.py", build_data)
        if not self.config.get("modules"):
            return
        if missing := what_is_missing():
            self.app.display_warning(f"{NOTICE} {missing}")
            return
        self._compile(self._folder, build_data)

    def _put_version(self, file: Path, build_data: dict[str, Any]) -> None:
        """Puts the version that is built in place of the one in the repository."""
        text = _VERSION.sub(f'__version__ = "{self.metadata.version}"', (ROOT / VERSION_FILE).read_text())
        file.write_text(text)
        build_data["force_include"][str(file)] = VERSION_FILE

    def _compile(self, folder: Path, build_data: dict[str, Any]) -> None:
        command = [sys.executable, __file__, str(folder), *self.config["modules"]]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            self.app.display_warning(f"{said}\n{NOTICE} compiling failed, with the messages above")
            return
        libraries = folder / "lib"
        for library in sorted(libraries.rglob("*.so")):
            build_data["force_include"][str(library)] = str(library.relative_to(libraries))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when it is there."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def compile_modules(folder: str, modules: list[str]) -> None:
    """Libraries of the modules, below `folder`/lib."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    extensions = mypycify(
        ["--config-file=pyproject.toml", *modules], group_name=GROUP, target_dir=f"{folder}/c", debug_level="0"
    )
    header = Path(folder, "slices.h")
    header.write_text(EMPTY_SLICES)
    for extension in extensions:
        extension.extra_compile_args = [*extension.extra_compile_args, "-include", str(header)]
    distribution = Distribution({"name": "bgpd", "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = f"{folder}/lib", f"{folder}/o"
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    compile_modules(sys.argv[1], sys.argv[2:])
