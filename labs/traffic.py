"""Test traffic of a laboratory: a reachability matrix, and flows whose losses are counted while something breaks."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from labs.namespace import Namespace
from labs.process import LabError, LoggedProcess, run_command, wait_until

REPLY = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) ", re.MULTILINE)
TOTALS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_HALF = 1 << 15


class Pair(msgspec.Struct, frozen=True):
    """Where a ping goes from and to; `source_address`: another than the kernel would choose."""

    source: Namespace
    destination: str
    source_address: str = ""

    def __str__(self) -> str:
        return f"{self.source.label} -> {self.destination}"

    @property
    def options(self) -> list[str]:
        """What ping is told besides the destination."""
        return ["-I", self.source_address] if self.source_address else []


class FlowResult(msgspec.Struct, frozen=True):
    """What a flow lost: packets, and the longest time without a reply in ms (0 when nothing was lost)."""

    pair: Pair
    sent: int
    lost: int
    outage_ms: float


class Flow:
    """A running ping of 100 packets/s, or as `interval_s` says."""

    def __init__(self, pair: Pair, directory: Path, *, interval_s: float = 0.01) -> None:
        self.pair = pair
        self._interval_s = interval_s
        log_path = directory / f"ping-{time.monotonic_ns()}.log"
        command = ["ping", "-n", "-D", *pair.options, "-i", str(interval_s), pair.destination]
        self._process: LoggedProcess = pair.source.popen(*command, log_path=log_path)

    def has_reply(self) -> bool:
        """Whether an answer came."""
        return REPLY.search(self._process.log_path.read_text(errors="replace")) is not None

    def stop(self) -> FlowResult:
        """End the flow and count.

        Raises: LabError: ping did not say what it sent.
        """
        self._process.stop(signal.SIGINT)
        return count(self.pair, self._process.log_path.read_text(errors="replace"), self._interval_s)


@contextmanager
def flowing(pairs: Sequence[Pair], directory: Path, *, interval_s: float) -> Iterator[list[FlowResult]]:
    """Flows that have had their first replies; what was lost of each is in the list at the end of the block."""
    flows = [Flow(pair, directory, interval_s=interval_s) for pair in pairs]
    results: list[FlowResult] = []
    try:
        wait_until(lambda: all(flow.has_reply() for flow in flows), 10, "the first replies")
        yield results
    finally:
        results += [flow.stop() for flow in flows]


def count(pair: Pair, output: str, interval_s: float) -> FlowResult:
    """Read the output of `ping -n -D -i INTERVAL`; a packet still under way when it was stopped is not a loss.

    Raises: LabError: there is no summary line in it.
    """
    totals = TOTALS.search(output)
    if totals is None:
        raise LabError(f"{pair}: ping ended without a summary:\n{output[-2000:]}")
    replies = sorted(_numbered((float(at), int(sequence)) for at, sequence in REPLY.findall(output)).items())
    sent = int(totals[1])
    if not replies:
        return FlowResult(pair, sent, sent, float("inf"))
    unanswered_at_end = sent - replies[-1][0]
    counted = sent if unanswered_at_end > 1 else replies[-1][0]
    gaps = [unanswered_at_end * interval_s] if unanswered_at_end > 1 else []
    gaps.append((replies[0][0] - 1) * interval_s)
    gaps += [later[1] - earlier[1] for earlier, later in itertools.pairwise(replies) if later[0] > earlier[0] + 1]
    return FlowResult(pair, counted, counted - len(replies), 1000 * max(gaps, default=0.0))


def _numbered(replies: Iterable[tuple[float, int]]) -> dict[int, float]:
    """When each packet was answered first, by its number; ping writes the lower 16 bits of that."""
    found: dict[int, float] = {}
    latest = 0
    for at, sequence in replies:
        number = latest + (sequence - latest + _HALF) % (2 * _HALF) - _HALF
        latest = max(latest, number)
        found.setdefault(number, at)
    return found


def reachable(pair: Pair, *, attempts: int = 2) -> bool:
    """Whether a ping is answered."""
    options = [*pair.options, "-c", str(attempts), "-i", "0.05", "-W", "1"]
    command = pair.source.command("ping", "-n", "-q", *options, pair.destination)
    totals = TOTALS.search(run_command(command, check=False))
    return totals is not None and int(totals[2]) > 0


def start_flows(pairs: Sequence[Pair], directory: Path) -> list[Flow]:
    """Start a flow per pair."""
    return [Flow(pair, directory) for pair in pairs]
