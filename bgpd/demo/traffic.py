"""A ping between two pods whose lost packets are counted."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from bgpd.demo.namespaces import Namespaces, StepFailed

INTERVAL_S = 0.01
TOTALS = re.compile(r"(\d+) packets transmitted, (\d+) received")
WAIT_S = 10.0


class Ping:
    """100 packets a second from a pod to an address, from `start` to `stop`."""

    def __init__(self, namespaces: Namespaces, source: str, destination: str, directory: Path) -> None:
        self._command = ("ping", "-n", "-i", str(INTERVAL_S), destination)
        self._namespaces = namespaces
        self._source = source
        self._output = directory / f"ping-{time.monotonic_ns()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once the first answer has come. Raises: StepFailed: none came."""
        self._process = self._namespaces.start(self._source, *self._command, output=self._output)
        end = time.monotonic() + WAIT_S
        while b"bytes from" not in self._output.read_bytes():
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._output.read_text(errors="replace").strip().splitlines()
                raise StepFailed(f"ping from {self._source} has no answer: {said[-1] if said else 'it said nothing'}")
            time.sleep(INTERVAL_S)

    def stop(self) -> tuple[int, int]:
        """Packets sent and lost. Raises: StepFailed: ping did not say."""
        assert self._process is not None, "it was started"
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise StepFailed(f"ping from {self._source} did not end") from None
        found = TOTALS.search(self._output.read_text(errors="replace"))
        if found is None:
            raise StepFailed("ping did not say how many packets it sent")
        sent, received = map(int, found.groups())
        return sent, sent - received
