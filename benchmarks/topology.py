"""The laboratory of every measurement: one host, its leaves, a pod, each in a network namespace of its own.

Leaf i (0, 1) is 10.0.i.2 and 2001:db8:i::2 on a veth link to the host's 10.0.i.1 and 2001:db8:i::1, interface "leafI".
The pod hangs on the host's interface "pod0". Leaves are played by injectors; BFD, if it is wanted, is spoken by BIRD.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from benchmarks.injector import Options
from benchmarks.kernel_table import KernelTable, NextHops
from benchmarks.routes import pack_address
from labs.daemons import Bird
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until

HOST_ASN, LEAF_ASN = 65203, 65201
REPOSITORY = Path(__file__).resolve().parent.parent
PREFIX = "hbench"
BFD_INTERVAL_MS, BFD_MULTIPLIER = 100, 3
DETECTION_S = BFD_INTERVAL_MS * BFD_MULTIPLIER / 1000
_BIRD_BFD = f"""router id 10.255.1{{number}}.1;
protocol device {{{{}}}}
protocol bfd {{{{
  interface "host0" {{{{ interval {BFD_INTERVAL_MS} ms; multiplier {BFD_MULTIPLIER}; }}}};
  neighbor 10.0.{{number}}.1 dev "host0" local 10.0.{{number}}.2;
}}}}
"""


class InjectorProcess:
    """A leaf's injector and the pipe to it."""

    def __init__(self, namespace: Namespace, options: Options) -> None:
        self.options = options
        self._process = subprocess.Popen(
            namespace.command(sys.executable, "-m", "benchmarks.injector", msgspec.json.encode(options).decode()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One command and its answer.

        Raises: LabError: the injector could not do it.
        """
        self.start(do, **arguments)
        return self.finish()

    def start(self, do: str, **arguments: Any) -> None:
        """Gives a command without waiting; `finish` takes its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """The answer to the last `start`.

        Raises: LabError.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LabError(f"the injector at {self.options.address} ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(f"injector at {self.options.address}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


class Topology:
    """A context manager: the namespaces, wired and addressed; `leaves` are their injectors."""

    def __init__(
        self,
        *,
        leaves: int = 1,
        families: tuple[str, ...] = ("ipv4-unicast", "ipv6-unicast"),
        restart_time_s: int = 0,
        bfd: bool = False,
    ) -> None:
        self.has_bfd = bfd
        self.bfd: list[Bird] = []
        self.restart_time_s = restart_time_s
        self.count = leaves
        self.families = families
        self.host = Namespace("host", prefix=PREFIX)
        self.pod = Namespace("pod", prefix=PREFIX)
        self.leaf_namespaces = [Namespace(f"leaf{number}", prefix=PREFIX) for number in range(leaves)]
        self.leaves: list[InjectorProcess] = []

    def __enter__(self) -> Topology:
        with contextlib.ExitStack() as stack:
            for namespace in (self.host, self.pod, *self.leaf_namespaces):
                stack.enter_context(namespace)
            self.host.set_sysctls({"net.ipv6.route.max_size": "2147483647"})
            link(self.host, "pod0", self.pod, "eth0")
            self.host.addresses("pod0", "169.254.1.1/32")
            for number, leaf in enumerate(self.leaf_namespaces):
                link(self.host, f"leaf{number}", leaf, "host0")
                self.host.addresses(f"leaf{number}", f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
                leaf.addresses("host0", f"10.0.{number}.2/24", f"2001:db8:{number}::2/64")
                self.leaves.append(self._injector(number, leaf))
                if self.has_bfd:
                    self.bfd.append(Bird(leaf, _BIRD_BFD.format(number=number)))
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for injector in self.leaves:
            injector.close()
        # Taking the links away flushes the routes here and now, so that no kernel thread does it during the next run.
        with contextlib.suppress(LabError):
            self.host.batch(*(f"link del leaf{number}" for number in range(self.count)))
        for namespace in (*self.leaf_namespaces, self.pod, self.host):
            namespace.close()

    def wait_for_bfd(self) -> None:
        """Until BFD is Up at every leaf, with the fast timers.

        Raises: LabError: it is not.
        """
        for bird in self.bfd:
            wait_until(
                lambda: " Up " in (said := bird.birdc("show bfd sessions")) and f"{DETECTION_S:.3f}" in said,  # noqa: B023
                20.0,
                "BFD to be Up",
                logs=bird.logs,
            )

    def gateways(self, family: str) -> list[str]:
        """The leaves' addresses of a family."""
        return [
            f"2001:db8:{number}::2" if family == "ipv6-unicast" else f"10.0.{number}.2" for number in range(self.count)
        ]

    def next_hops(self, family: str, *leaves: int) -> NextHops:
        """The packed addresses of these leaves; of all if none is named."""
        gateways = self.gateways(family)
        return frozenset(pack_address(gateways[number]) for number in (leaves or range(self.count)))

    @contextlib.contextmanager
    def kernel_table(self, family: str) -> Iterator[KernelTable]:
        """The host's routing table."""
        with self.host.entered():
            table = KernelTable(family=family)
        try:
            yield table
        finally:
            table.close()

    def _injector(self, number: int, namespace: Namespace) -> InjectorProcess:
        options = Options(
            address=f"10.0.{number}.2",
            asn=LEAF_ASN,
            router_id=f"10.255.0.{number + 1}",
            families=self.families,
            next_hop=f"10.0.{number}.2",
            next_hop6=f"2001:db8:{number}::2",
            restart_time_s=self.restart_time_s,
            variant=number,
        )
        return InjectorProcess(namespace, options)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    system = os.uname()
    return {"kernel": system.release, "cpu": cpu, "cores": os.cpu_count(), "python": sys.version.split()[0]}
