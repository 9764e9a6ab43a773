"""The two forms of bgpd: what the wheel has, that it is plain Python where nothing can be compiled, and that errors in
compiled code are what they are in Python."""

from __future__ import annotations

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from bgpd import __version__
from bgpd.runtime.form import Form, form
from labs.forms import NotCompiled, compiled_form, form_environment

ROOT = Path(__file__).parent.parent
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
MODULES: list[str] = HOOK["custom"]["modules"]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.fixture(scope="session")
def compiled() -> Path:
    try:
        return compiled_form()
    except NotCompiled as error:
        pytest.skip(str(error))


@pytest.fixture(params=["compiled", "plain"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Where each of both forms is."""
    return ROOT if request.param == "plain" else request.getfixturevalue("compiled")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with bgpd from `folder`."""
    command = ["env", *form_environment(folder), sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def build(project: Path, into: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    environ = {**os.environ, **environment}
    return subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)


def built_version(folder: Path) -> str:
    """The version of the wheel that was unpacked there."""
    (metadata,) = folder.glob("bgpd-*.dist-info/METADATA")
    return str(email.message_from_string(metadata.read_text())["Version"])


def test_wheel_has_library_and_source_of_each_compiled_module(compiled: Path) -> None:
    for module in MODULES:
        assert (compiled / module).read_bytes() == (ROOT / module).read_bytes()
        assert (compiled / module).with_suffix(SUFFIX).exists()
    tags = next(compiled.glob("*.dist-info/WHEEL")).read_text()
    assert f"Tag: cp{sys.version_info.major}{sys.version_info.minor}-" in tags
    assert "Root-Is-Purelib: false" in tags
    needed = next(compiled.glob("*.dist-info/METADATA")).read_text()
    assert "Requires-Dist: mypy>" not in needed.replace("Requires-Dist: mypy>=1.14; extra == 'dev'", "")


def test_repository_itself_stays_plain(compiled: Path) -> None:
    assert not list((ROOT / "bgpd").rglob("*.so"))
    assert run(ROOT, "-m", "bgpd", "--version").stdout == f"bgpd {__version__} (plain)\n"
    assert run(compiled, "-m", "bgpd", "--version").stdout == f"bgpd {built_version(compiled)} (compiled)\n"


def test_without_a_compiler_the_wheel_is_plain_and_one_line_says_why(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.iterdir()
    assert re.fullmatch(rf"bgpd-{re.escape(__version__)}.*-py3-none-any.whl", wheel.name)
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "bgpd" / "page").iterdir()}
    assert "bgpd/page/index.html" in page
    assert page <= set(zipfile.ZipFile(wheel).namelist())
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "plain Python" in line]
    assert "there is no C compiler" in line


def test_module_that_does_not_compile_is_told_and_the_wheel_is_plain(compiled: Path, tmp_path: Path) -> None:
    project, into = tmp_path / "project", tmp_path / "into"
    for name in ("bgpd", "conf", "systemd"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    with (project / MODULES[0]).open("a") as module:
        module.write("\n\nWRONG: int = b''\n")
    done = build(project, into)
    assert done.returncode == 0, done.stderr
    assert [wheel.name for wheel in into.iterdir()] == [f"bgpd-{__version__}-py3-none-any.whl"]
    said = done.stdout + done.stderr
    assert "Incompatible types in assignment" in said
    assert "bgpd is built as plain Python: compiling failed" in said


def test_another_python_runs_the_sources(compiled: Path, tmp_path: Path) -> None:
    """As after an upgrade of Python: what was compiled has another version's name."""
    shutil.copytree(compiled / "bgpd", tmp_path / "bgpd")
    for library in list(tmp_path.rglob("*.so")):
        library.rename(str(library).replace("cpython-3", "cpython-9"))
    assert run(tmp_path, "-m", "bgpd", "--version").stdout == f"bgpd {built_version(compiled)} (plain)\n"
    code = f"import bgpd.daemon, {_name(MODULES[0])} as module; print(module.__file__)"
    assert run(tmp_path, "-c", code).stdout.strip() == str(tmp_path / MODULES[0])


def _name(module: str) -> str:
    return module.removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("module", MODULES)
def test_daemon_imports_each_compiled_module_as_such(compiled: Path, module: str) -> None:
    done = run(compiled, "-c", f"import bgpd.daemon, sys; print(sys.modules[{_name(module)!r}].__file__)")
    assert done.stdout.strip().endswith(module.removesuffix(".py") + SUFFIX)  # mypyc names a wrong folder of some


def test_this_process_knows_its_form() -> None:
    import bgpd.message.nlri as module

    assert form() is (Form.COMPILED if module.__file__.endswith(".so") else Form.PLAIN)


TRACEBACK = """
from bgpd.message.nlri import PrefixSplitter
from bgpd.model.wire import MalformedNlri
try:
    PrefixSplitter(32).split(bytes((24, 10, 0, 0, 33, 1)))
except MalformedNlri:
    import traceback
    traceback.print_exc(file=__import__("sys").stdout)
"""


def test_traceback_goes_through_compiled_code_with_its_lines(folder: Path) -> None:
    said = run(folder, "-c", TRACEBACK).stdout
    assert "bgpd/message/nlri.py" in said
    assert "in _walk" in said
    assert "raise self._malformed(field, start)" in said
    assert "MalformedNlri: prefix length 33 is over 32" in said


TYPES = """
from bgpd.message.nlri import PrefixSplitter
try:
    PrefixSplitter(32).split(5)
except TypeError as error:
    print("TypeError")
"""


def test_wrong_type_is_an_ordinary_exception(folder: Path) -> None:
    assert run(folder, "-c", TYPES).stdout == "TypeError\n"


SLICE = """
from bgpd.message import plain_updates
body = bytes.fromhex("0000001b800e04000201404001010040020602010000feb14003040a000102")
print(plain_updates._split_multiprotocol(body))
"""


def test_slice_that_ends_before_it_starts_is_empty(folder: Path) -> None:
    """mypyc alone makes it a SystemError: any neighbor could end its session as a defect."""
    done = run(folder, "-c", SLICE)
    assert done.stdout == "None\n", done.stderr


SIGNAL = """
import os, signal
from bgpd.message.nlri import PrefixSplitter
field = bytes((24, 10, 0, 0)) * 3 + bytes((16, 10, 0))
splitter = PrefixSplitter(32)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        splitter.split(field)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_interrupt_arrives_between_calls(folder: Path) -> None:
    assert run(folder, "-c", SIGNAL).stdout == "interrupted\n"


MEMORY = """
import resource
from bgpd.message.nlri import PrefixSplitter
field = (bytes((24, 10, 0, 0)) + bytes((16, 10, 0))) * 2_000_000
splitter = PrefixSplitter(32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000,) * 2)
for _ in range(3):
    try:
        splitter.split(field)
    except MemoryError:
        print("no memory")
"""


def test_lack_of_memory_is_a_memory_error_and_nothing_is_broken(folder: Path) -> None:
    done = run(folder, "-c", MEMORY)
    assert (done.returncode, done.stdout) == (0, "no memory\n" * 3), done.stderr


def classes(module: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("module", MODULES)
def test_compiled_classes_have_no_bases_but_compiled_ones(module: str) -> None:
    """Those that derive from classes of C (weakref.ref) break memory, and keywords (of a Struct: frozen, gc, tag) are
    dropped without a word."""
    allowed = {node.name for one in MODULES for node in classes(one)} | {"Generic"}
    for node in classes(module):
        bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
        assert bases <= allowed, f"{module}:{node.lineno}: {node.name} belongs into a module that is not compiled"
        assert not node.keywords, f"{module}:{node.lineno}: {node.name} has keywords"


@pytest.mark.parametrize("module", MODULES)
def test_constants_of_compiled_modules_are_final(module: str) -> None:
    """Else mypyc looks each up in a dict, and checks its type, wherever it is used."""
    for node in ast.parse((ROOT / module).read_text()).body:
        if isinstance(node, ast.Assign):
            is_constant = isinstance(node.value, ast.Constant | ast.BinOp | ast.UnaryOp | ast.Tuple)
            assert not is_constant, f"{module}:{node.lineno}: write NAME: Final = ..."
