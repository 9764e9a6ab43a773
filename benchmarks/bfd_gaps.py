"""The gaps between the BFD packets that arrive from the host, by the kernel's time stamps at the leaf's interface."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import msgspec

from labs.namespace import Namespace
from labs.process import LoggedProcess, wait_until

BFD_PORT = 3784
_PACKET = re.compile(r"^(\d+\.\d+) IP .*?BFDv1,.*?Control, State (\w+),", re.MULTILINE)


class Packet(msgspec.Struct, frozen=True):
    """When it came (s), and the state that it told."""

    at: float
    state: str


class BfdPackets:
    """Watches the BFD packets of the host at one leaf from now on."""

    def __init__(self, leaf: Namespace, host_address: str) -> None:
        log = leaf.make_directory("bfd") / "packets.log"
        condition = f"udp dst port {BFD_PORT} and src host {host_address}"
        command = ("tcpdump", "-l", "-n", "-tt", "-v", "--immediate-mode", "-i", "host0", condition)
        self._process: LoggedProcess = leaf.popen(*command, log_path=log)
        wait_until(self.seen, 10.0, "tcpdump to see BFD packets", logs=[log])

    def seen(self) -> list[Packet]:
        """Those that came so far."""
        return packets_of(self._process.log_path.read_text(errors="replace"))

    def stop(self) -> list[Packet]:
        """No more; all that came."""
        self._process.stop()
        return self.seen()


def packets_of(output: str) -> list[Packet]:
    """What `tcpdump -tt -v` said, whose description of a packet is on the line after its header."""
    joined = re.sub(r"\n\s+", " ", output)
    return [Packet(float(at), state) for at, state in _PACKET.findall(joined)]


def gap_figures(leaves: Sequence[Sequence[Packet]]) -> dict[str, float]:
    """Of all leaves: the longest gap, and what 99 % are below, in ms; packets; flaps (from Up to another state)."""
    gaps, flaps = [], 0
    for packets in leaves:
        for before, after in itertools.pairwise(packets):
            gaps.append(1000 * (after.at - before.at))
            flaps += before.state == "Up" and after.state != "Up"
    gaps.sort()
    return {
        "milliseconds": gaps[-1],
        "gap_p99_ms": gaps[int(0.99 * (len(gaps) - 1))],
        "gap_median_ms": gaps[len(gaps) // 2],
        "bfd_packets": float(len(gaps)),
        "bfd_flaps": float(flaps),
    }
