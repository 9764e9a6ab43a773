"""TCP flows to a service address: started in a namespace, ended, and counted by backend."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from labs.namespace import Namespace
from labs.process import LabError, wait_until

PROGRAM = Path(__file__).with_name("tcp_flows.py")
READY_TIMEOUT_S = 15.0
INTERVAL_S = 0.05


class ServiceFlow(msgspec.Struct, frozen=True):
    """What became of one connection: see `tcp_flows.Flow`."""

    backend: str
    sent: int
    answered: int
    slowest_ms: float
    error: str


class ServiceTraffic:
    """Connections from a namespace to a service, open from `start` to `stop`, each with a request every 50 ms."""

    def __init__(self, namespace: Namespace, address: str, port: int, *, flows: int) -> None:
        self._flows = flows
        self._log_path = namespace.make_directory("flows") / "flows.log"
        command = [sys.executable, str(PROGRAM), address, str(port), str(flows), str(INTERVAL_S)]
        self._process = namespace.popen(*command, log_path=self._log_path)
        wait_until(lambda: "ready\n" in self._log_path.read_text(), READY_TIMEOUT_S, "the flows", logs=[self._log_path])

    def stop(self) -> list[ServiceFlow]:
        """End the connections.

        Raises: LabError: they did not say what became of them.
        """
        self._process.stop()
        lines = self._log_path.read_text().partition("ready\n")[2].splitlines()
        if len(lines) != self._flows:
            raise LabError(f"{self._flows} flows reported {len(lines)} times\n{self._process.tail()}")
        return [msgspec.json.decode(line, type=ServiceFlow) for line in lines]


def summary(flows: Sequence[ServiceFlow]) -> str:
    """One line: how many flows, over which backends, what broke, the slowest answer."""
    spread = Counter(flow.backend or "none" for flow in flows)
    broken = [flow for flow in flows if flow.error]
    over = ", ".join(f"{name} {count}" for name, count in sorted(spread.items()))
    answered = sum(flow.answered for flow in flows)
    slowest = max(flow.slowest_ms for flow in flows)
    text = f"{len(flows)} flows ({over}): {len(broken)} broken, {answered} answers, slowest {slowest:.0f} ms"
    return f"{text}; broken: {_errors(broken)}" if broken else text


def hold_to(flows: Sequence[ServiceFlow], *, may_break: Collection[str] = ()) -> None:
    """Raises: LabError: a flow broke whose backend is not among `may_break`, or one of those did not."""
    for backend in may_break:
        survivors = [flow for flow in flows if flow.backend == backend and not flow.error]
        if survivors:
            raise LabError(f"{len(survivors)} flows to {backend}, which was ended, still live: {summary(flows)}")
    innocent = [flow for flow in flows if flow.error and flow.backend not in may_break]
    if innocent:
        raise LabError(f"{len(innocent)} flows broke that nothing was to happen to: {_errors(innocent)}")


def _errors(flows: Sequence[ServiceFlow]) -> str:
    counted = Counter((flow.backend or "none", flow.error) for flow in flows)
    return ", ".join(f"{count} of {backend} ({error})" for (backend, error), count in sorted(counted.items()))
