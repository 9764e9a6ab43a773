"""Searches by atheris: the targets are imported once, with bytecode that counts branches, and each search is a fork."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INSTRUMENTED = ("bgpd", "exabgp.bgp.message.open", "exabgp.util", "h11")
"""The product, what it uses of ExaBGP, and who reads HTTP. Nothing may have imported them before."""
SLOW_S = 0.5
"""CPU time of a message here; judge.py judges it plainly."""


def instrumented_targets() -> Mapping[str, Any]:
    """All targets. Raises: ImportError: atheris is not there."""
    import atheris

    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=list(INSTRUMENTED)):
        from bgpd.message.exabgp_codec import load
        from tests.fuzz.target import directory
        from tests.fuzz.targets import TARGETS, quiet

        load()
    quiet()
    directory()  # of this process, which removes it: a search ends without doing so
    return TARGETS


def searched(target: Any, options: Sequence[str], log: Path) -> int:
    """The exit status of a search with these options of libFuzzer; what it says is in `log`."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        _search(target, ["", *options])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _search(target: Any, arguments: Sequence[str]) -> None:
    """Never returns."""
    import atheris

    def timed(data: bytes) -> None:
        began = time.thread_time()
        target.run(data)
        took = time.thread_time() - began
        if took > target.messages * SLOW_S:
            raise RuntimeError(f"{took:.2f} s of CPU")

    atheris.Setup(list(arguments), timed)
    atheris.Fuzz()
