"""Hatchling's hook for the wheel: compiles the modules that pyproject.toml lists with mypyc, where that is possible.

The wheel has the source of each compiled module beside it: tracebacks show it, and a Python for which nothing was
compiled runs it. Where mypy, a C compiler or Python's headers are missing, or compiling fails, the wheel is plain
Python, and one line says why. An editable installation is always plain Python.

`python hatch_build.py FOLDER MODULE...`, which the hook runs, compiles in a process of its own.
"""

from __future__ import annotations

import importlib.util
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


class CompiledModules(BuildHookInterface):  # type: ignore[type-arg]
    """The hook; `modules` in its table of pyproject.toml are the files to compile."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is put together."""
        if version == "editable" or not self.config["modules"]:
            return
        missing = what_is_missing()
        if missing:
            self.app.display_warning(f"{NOTICE} {missing}")
            return
        self._folder = Path(tempfile.mkdtemp(prefix="bgpd-build-"))
        command = [sys.executable, __file__, str(self._folder), *self.config["modules"]]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            self.app.display_warning(f"{said}\n{NOTICE} compiling failed, with the messages above")
            return
        libraries = self._folder / "lib"
        for library in sorted(libraries.rglob("*.so")):
            build_data["force_include"][str(library)] = str(library.relative_to(libraries))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is there."""
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
