"""The guest itself: with a larger register state than it knows, when it dies, and when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm import parts
from tests.vm.guest import DIED, TIMED_OUT, run_guest
from tests.vm.parts import NoGuest, extended_state_library, unpacked

pytestmark = pytest.mark.netns

EFAULT = 14

# Traces a child and sets as much of its registers as every processor has, as user-mode Linux does; prints the error.
SET_REGISTERS = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
class Buffer(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("size", ctypes.c_size_t)]
child = os.fork()
if not child:
    libc.ptrace(0, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(child, 0)
def registers(request, data):
    buffer = Buffer(ctypes.cast(data, ctypes.c_void_p), len(data))
    return ctypes.get_errno() if libc.ptrace(request, child, 0x202, ctypes.addressof(buffer)) < 0 else 0
before = ctypes.create_string_buffer(576)
assert registers(0x4204, before) == 0
before[160] = b"x"  # the lowest byte of XMM0
before[512] = bytes([before[512][0] | 2])  # and that the SSE component is in use
error = registers(0x4205, before)
after = ctypes.create_string_buffer(576)
assert registers(0x4204, after) == 0
print(error, after[160] == b"x")
os.kill(child, signal.SIGKILL)
"""

BREAKS_AS_WITHOUT_IT = """
extern void *dlsym(void *handle, const char *name);
extern int *__errno_location(void);
typedef long function(int, int, void *, void *);
long ptrace(int request, int pid, void *address, void *data)
{
    if (request != 0x4205) return ((function *)dlsym((void *)-1, "ptrace"))(request, pid, address, data);
    *__errno_location() = 14;
    return -1;
}
"""


@pytest.fixture(scope="module")
def library() -> Path:
    if os.uname().machine != "x86_64":
        pytest.skip("user-mode Linux runs on x86-64 only")
    try:
        unpacked("user-mode-linux")
        unpacked("busybox-static")
        return extended_state_library()
    except NoGuest as error:
        pytest.skip(str(error))


def run(*command: str, timeout_s: float = 120.0) -> int:
    return run_guest(list(command), timeout_s=timeout_s, memory_mib=256, writable=[])


def set_registers(preload: str) -> str:
    command = [sys.executable, "-c", SET_REGISTERS]
    done = subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": preload}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_part_of_the_register_state_is_set_only_with_the_library(library: Path) -> None:
    assert set_registers("") == f"{EFAULT} False"
    assert set_registers(str(library)) == "0 True"


def test_library_is_compiled_once(library: Path) -> None:
    made = library.stat().st_mtime_ns
    assert extended_state_library() == library
    assert library.stat().st_mtime_ns == made


@pytest.mark.usefixtures("library")
def test_status_and_output_are_those_of_the_command(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("sh", "-c", "uname -n; exit 3") == 3
    assert capfdbinary.readouterr().out == b"guest\n"


@pytest.mark.usefixtures("library")
def test_panic_is_told_at_once_with_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("sh", "-c", "echo c >/proc/sysrq-trigger; sleep 600") == DIED
    assert "Kernel panic - not syncing: sysrq triggered crash" in capfd.readouterr().err


@pytest.mark.usefixtures("library")
def test_command_that_takes_too_long_ends_with_the_guest(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("sleep", "600", timeout_s=6.0) == TIMED_OUT
    assert "not done after 6 s" in capfd.readouterr().err


def test_guest_that_dies_at_its_first_program_is_tried_again_then_told(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "breaks.c"
    source.write_text(BREAKS_AS_WITHOUT_IT)
    monkeypatch.setattr(parts, "EXTENDED_STATE", source)
    broken = extended_state_library()
    try:
        with pytest.raises(NoGuest, match="did not start in 3 boots"):
            run("true")
    finally:
        broken.unlink()
    said = capfd.readouterr().err
    assert "boot 3 of 3 failed" in said
    assert "Kernel panic" in said


def test_package_that_cannot_be_fetched_is_no_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str, folder: str) -> None:
        raise subprocess.CalledProcessError(100, ["apt-get", "download", package])

    monkeypatch.setattr(parts, "CACHE", tmp_path)
    monkeypatch.setattr(parts, "_download", fail)
    with pytest.raises(NoGuest, match="Debian's package user-mode-linux could not be fetched"):
        run("true")
