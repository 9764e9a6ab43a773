"""The routes of probes: which gateways they have, and what happens when the kernel does not take them."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bgpd.fib.probe_routes import RETRY_S, ProbeRoutes
from bgpd.kernel.host import Host
from bgpd.kernel.netlink import KernelError, MessageKind, attributes, messages
from bgpd.kernel.route_messages import RTA_GATEWAY, RTA_TABLE, RTMSG
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.service import ProbedAddress
from tests.clocks import in_simulated_time

V4 = Family.IPV4_UNICAST
VIP = parse_prefix("10.64.9.1/32")[1]
POD, OWN = NextHop(parse_address("10.64.1.5"), "pod1"), NextHop(parse_address("10.0.0.1"), "lo")


class Kernel:
    """Stands for the dataplane: `refuses` says what becomes of each request. `gateways` are those of all routes that
    were taken, `tables` what each table has.
    """

    def __init__(self) -> None:
        self.host = Host(lambda event: None)
        self.host.link(Link(index=1, name="lo", up=True))
        self.host.link(Link(index=2, name="pod1", up=True))
        self.host.address(Address(index=1, interface="lo", packed=OWN.address, prefix_length=32))
        self.rules_changed: list[Callable[[], None]] = []
        self.monitor = SimpleNamespace(subscribe=lambda subscriber: None, rules_changed=self.rules_changed)
        self.refuses: Callable[[int], int] = lambda kind: 0
        self.lost = ""
        self.batches: list[list[int]] = []
        self.gateways: list[bytes] = []
        self.tables: dict[int, bytes] = {}

    async def change(self, data: bytes) -> Outcome:
        await asyncio.sleep(0)
        kinds, errors = [], []
        for kind, _flags, _sequence, start, end in messages(data):
            kinds.append(kind)
            code = self.refuses(kind)
            if code:
                errors.append(KernelError(code, "", data[start - 16 : end]))
            elif kind == MessageKind.NEW_ROUTE and not self.lost:
                found = attributes(data, start + RTMSG.size, end)
                self.gateways += [found[RTA_GATEWAY]] if RTA_GATEWAY in found else []
                if RTA_GATEWAY in found:
                    self.tables[int.from_bytes(found[RTA_TABLE], "little")] = found[RTA_GATEWAY]
            elif kind == MessageKind.DEL_ROUTE:
                found = attributes(data, start + RTMSG.size, end)
                self.tables.pop(int.from_bytes(found[RTA_TABLE], "little"), None)
        self.batches.append(kinds)
        return Outcome(errors, lost=self.lost)


def routes(kernel: Kernel) -> ProbeRoutes:
    dataplane: Any = kernel
    return ProbeRoutes(dataplane, protocol=217, metric=20, sources=("169.254.62.0/24",))


def asked(service: str = "web", vrf: str = "") -> ProbedAddress:
    return ProbedAddress(service, vrf, V4, VIP)


def test_address_of_the_host_itself_is_no_gateway() -> None:
    """The kernel would refuse it together with the others, and nobody would be asked."""

    async def work() -> list[bytes]:
        kernel = Kernel()
        answers: list[str] = []
        routes(kernel).set(asked(), tuple(sorted((OWN, POD))), answers.append)
        await asyncio.sleep(1)
        assert answers == [""]
        return kernel.gateways

    assert in_simulated_time(work()) == [POD.address]


def test_what_the_kernel_does_not_take_is_written_again_until_it_does() -> None:
    async def work() -> None:
        kernel, answers = Kernel(), list[str]()
        made = routes(kernel)
        kernel.refuses = lambda kind: errno.ENOMEM if kind == MessageKind.NEW_ROUTE else 0
        made.set(asked(), (POD,), answers.append)
        await asyncio.sleep(2.5 * RETRY_S)
        assert answers == ["Cannot allocate memory"] * 3
        kernel.refuses = lambda kind: 0
        await asyncio.sleep(RETRY_S)
        assert answers[3:] == [""]
        await asyncio.sleep(10 * RETRY_S)
        assert len(answers) == 4, "it is not written any more"

    in_simulated_time(work())


def test_batch_that_was_lost_is_written_as_a_whole() -> None:
    async def work() -> None:
        kernel, answers = Kernel(), list[str]()
        made = routes(kernel)
        kernel.lost = "No buffer space available"
        made.set(asked(), (POD,), answers.append)
        await asyncio.sleep(1)
        kernel.lost = ""
        await asyncio.sleep(RETRY_S)
        assert answers == ["No buffer space available", ""]
        first, second = kernel.batches
        assert first == second, "with the rules and the route of the source"
        kernel.lost = "No buffer space available"
        made.set(asked(), (POD,), answers.append)
        await asyncio.sleep(1)
        made.set(asked(), None, answers.append)
        await asyncio.sleep(10 * RETRY_S)
        assert len(answers) == 3, "nobody wants it any more"
        await made.stop()

    in_simulated_time(work())


def test_nothing_is_tried_again_after_the_end() -> None:
    async def work() -> int:
        kernel, answers = Kernel(), list[str]()
        made = routes(kernel)
        kernel.lost = "bgpd ends"
        made.set(asked(), (POD,), answers.append)
        await asyncio.sleep(1)
        await made.stop()
        await asyncio.sleep(10 * RETRY_S)
        return len(kernel.batches)

    assert in_simulated_time(work()) == 1


def test_rules_that_others_changed_are_written_again() -> None:
    async def work() -> None:
        kernel, answers = Kernel(), list[str]()
        routes(kernel).set(asked(), (POD,), answers.append)
        await asyncio.sleep(1)
        for changed in kernel.rules_changed:
            changed()
        await asyncio.sleep(1)
        assert len(kernel.batches) == 2
        assert all(one == other for one, other in itertools.pairwise(kernel.batches))

    in_simulated_time(work())


def test_services_with_one_address_each_ask_their_own_backends() -> None:
    """The old and the new one of a deployment: neither is taken for healthy since the other is, nor takes its route."""

    async def work() -> None:
        kernel, answers = Kernel(), list[str]()
        made = routes(kernel)
        new = NextHop(parse_address("10.64.1.6"), "pod1")
        made.set(asked("old"), (POD,), answers.append)
        made.set(asked("new"), (new,), answers.append)
        await asyncio.sleep(1)
        assert kernel.tables == {2_170_001: POD.address, 2_170_002: new.address}
        assert made.source(asked("old")) == "169.254.62.1"
        assert made.source(asked("new")) == "169.254.62.2"
        assert made.tables() == {2_170_001, 2_170_002}
        made.set(asked("old"), None, answers.append)
        await asyncio.sleep(1)
        assert kernel.tables == {2_170_002: new.address}
        batches = len(kernel.batches)
        made.write_again(asked("new"))
        made.write_again(asked("old"))
        await asyncio.sleep(1)
        assert len(kernel.batches) == batches + 1
        made.set(asked("third"), (POD,), answers.append)
        made.set(asked("elsewhere", "blue"), (POD,), answers.append)
        await asyncio.sleep(1)
        assert kernel.tables == {2_170_001: POD.address, 2_170_002: new.address, 2_170_003: POD.address}
        assert set(answers) == {""}

    in_simulated_time(work())


def test_more_vrfs_than_tables_say_so() -> None:
    async def work() -> None:
        kernel, answers = Kernel(), list[str]()
        made = routes(kernel)
        for number in range(250):
            made.set(asked("web", f"vrf{number}"), (POD,), answers.append)
        assert answers == ["all 250 tables of probes are in use"]
        made.set(asked("web", "vrf249"), None, answers.append)
        made.set(asked(), (POD,), answers.append)
        await asyncio.sleep(1)
        assert answers.count("") == 250

    in_simulated_time(work())
