"""Starts a UDP flow from the pod over the host to its leaves, and says afterwards how many packets were lost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.topology import REPOSITORY, Topology
from labs.namespace import Namespace
from labs.process import LabError

POD_ADDRESS = "10.64.0.2"
DESTINATIONS = "20.0.0.0/7"
"""Where the "v4-32" route sets lie: the leaves take every address of it as their own."""


class Flow:
    """A running flow of `rate` packets a second."""

    def __init__(self, topology: Topology, destinations: list[str], *, rate: int = 10_000) -> None:
        topology.pod.batch(
            f"addr add {POD_ADDRESS}/32 dev eth0", "route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1"
        )
        topology.host.batch(f"route add {POD_ADDRESS}/32 dev pod0")
        for leaf in topology.leaf_namespaces:
            leaf.batch(f"route add local {DESTINATIONS} dev lo")
        self._receivers = [_start(leaf, "receive", {}) for leaf in topology.leaf_namespaces]
        self._sender = _start(topology.pod, "send", {"destinations": destinations, "rate": rate})

    def stop(self) -> dict[str, float]:
        """Ends the flow: packets sent, and lost on the way."""
        sent = _end(self._sender)
        received = sum(_end(receiver)["received"] for receiver in self._receivers)
        return {"packets_sent": float(sent["sent"]), "packets_lost": float(sent["sent"] - received)}


def _start(namespace: Namespace, what: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
    command = namespace.command(sys.executable, "-m", "benchmarks.flow", what, json.dumps(arguments))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise LabError(f"the flow's {what} end did not start")
    return process


def _end(process: subprocess.Popen[str]) -> dict[str, int]:
    output, _ = process.communicate("\n", timeout=30.0)
    answer: dict[str, int] = json.loads(output)
    return answer
