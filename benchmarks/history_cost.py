"""python -m benchmarks.history_cost: what share of a core the history of routes takes, by threads' processor time.

UPDATEs are decoded as a session decodes them, with the history on and off in turn, in one run: the difference in the
loop's thread is what it costs there, the time of all other threads what its writer takes. Shares are those of a stream
of 20,000 UPDATEs a second, whatever else the machine does meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from benchmarks.wire import announce, common_attributes
from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.history.recorder import WRITE_S, History
from bgpd.message.exabgp_codec import load
from bgpd.message.open import Negotiated
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind

RATE = 20_000
"""UPDATEs a second, each with one route."""
READS = (100, 30, 1)
"""UPDATEs of a read: a steady stream is read by windows of 5 ms, which is 100."""
HEADER = 19
NEIGHBOR = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
asn = 65201
address = "10.0.1.2"
import = "all"
"""
AGREED = Negotiated(
    local_asn=65203,
    peer_asn=65201,
    local_router_id=b"\x0a\xff\x01\x01",
    peer_router_id=b"\x0a\0\0\1",
    hold_time_s=9,
    families=(Family.IPV4_UNICAST,),
)


def updates(count: int) -> list[bytes]:
    """Bodies of UPDATEs: random prefixes, each with one of a thousand attribute blocks."""
    rng = random.Random(1)
    next_hop = ip_address("10.0.1.2").packed
    blocks = [common_attributes((65201, rng.randint(1, 64_000)), med=number) for number in range(1_000)]
    found = []
    for _ in range(count):
        prefix = bytes((24, rng.randint(1, 223), rng.randint(0, 255), rng.randint(0, 255)))
        (message,) = announce("ipv4-unicast", rng.choice(blocks), next_hop, [prefix])
        found.append(message[HEADER:])
    return found


class Round:
    """A session whose UPDATEs are decoded; its clock goes as if they came at RATE."""

    def __init__(self, directory: Path, config: Config, *, is_on: bool) -> None:
        self.now = 1_700_000_000.0
        max_bytes = 1 << 26 if is_on else 0
        self.history = History(directory, max_bytes=max_bytes, config=config.rib, now=lambda: self.now)
        self._source = Source(
            name="leaf1", kind=SourceKind.EBGP, asn=65201, router_id=b"\x0a\0\0\1", address=b"\x0a\0\1\2"
        )
        self._decoder = UpdateDecoder(AGREED, nlri_decoders={}, accept_martians=True)
        if is_on:
            self.history.started((), is_adopting=False)
            self.history.session_up(self._source, AGREED, config.neighbor[0], None)

    async def run(self, bodies: Sequence[bytes], size: int) -> tuple[float, float]:
        """Processor time of the loop's thread, and of all others, for all of these, `size` in a read."""
        decode, heard, source = self._decoder.read_run, self.history.heard, self._source
        writes = written = int(RATE * WRITE_S)
        total, own = time.process_time(), time.thread_time()
        for start in range(0, len(bodies), size):
            some = list(bodies[start : start + size])
            found: list[RouteBatch] = []
            decode(some, found)
            heard(source, some, found)
            self.now += len(some) / RATE
            if start >= written:
                written += writes
                await self.history.flush()
        await self.history.flush()
        own = time.thread_time() - own
        return own, time.process_time() - total - own


def measure(size: int, *, seconds: int, rounds: int) -> tuple[float, float]:
    """Shares of a core: in the loop, and in the writer's thread. The median of the rounds."""
    config = parse_config(NEIGHBOR, "leaf1.toml")[0]
    bodies = updates(RATE * seconds)
    loop, writer = [], []
    for _ in range(rounds):
        taken = {}
        for is_on in (False, True):
            with tempfile.TemporaryDirectory() as directory:
                taken[is_on] = asyncio.run(Round(Path(directory), config, is_on=is_on).run(bodies, size))
        loop.append((taken[True][0] - taken[False][0]) / seconds)
        writer.append((taken[True][1] - taken[False][1]) / seconds)
    return statistics.median(loop), statistics.median(writer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each size of a read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history_cost", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of the stream (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    chosen = parser.parse_args(arguments)
    load()
    print(f"share of a core at {RATE:,} UPDATEs a second")
    print("UPDATEs a read   loop  writer     sum")
    for size in READS:
        loop, writer = measure(size, seconds=chosen.seconds, rounds=chosen.rounds)
        print(f"{size:>14} {100 * loop:5.2f} % {100 * writer:5.2f} % {100 * (loop + writer):5.2f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
