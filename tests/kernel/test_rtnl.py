"""Changes through pyroute2, in the real kernel: made, refused in the kernel's words, and without the capability."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bgpd.kernel import rtnl as rtnl_module
from bgpd.kernel.link_messages import encode_add_rule, encode_delete_rule
from bgpd.kernel.netlink import KernelError, messages, open_socket, read_error, read_sequence
from bgpd.kernel.reader import KernelReader
from bgpd.kernel.route_messages import encode_last_resort
from bgpd.kernel.rtnl import Rtnl
from bgpd.model.iana import Family
from bgpd.model.kernel import RoutingRule
from tests.own_network import ip, own_network
from tests.waiting import until

pytestmark = pytest.mark.netns

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
IN = RoutingRule(family=V4, priority=1000, protocol=217, table=100_001, iif="eth0")
OUT = RoutingRule(family=V6, priority=1000, protocol=217, table=1001, oif="eth0")
LINK_LOCAL = RoutingRule(family=V6, priority=999, protocol=217, table=254, to=b"\x0a\xfe\x80")
OF_DEVICES = RoutingRule(family=V6, priority=1000, protocol=2, l3mdev=True)


@pytest_asyncio.fixture
async def rtnl() -> AsyncIterator[Rtnl]:
    """In a namespace with a link eth0 of index 5."""
    with own_network():
        ip("link add index 5 name eth0 type veth peer name leaf0")
        ip("link set eth0 up")
        ip("link set leaf0 up")
        made = Rtnl()
        made.start()
        try:
            yield made
        finally:
            made.stop()


def refusals(request: bytes) -> list[KernelError]:
    """What the kernel answers to a request that asks for no acknowledgement: its errors."""
    with open_socket() as opened:
        opened.send(request)
        try:
            data = opened.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        found = [read_error(data, start, end, flags) for _kind, flags, _sequence, start, end in messages(data)]
        return [error for error in found if error is not None]


@pytest.mark.parametrize("rule", [IN, OUT, LINK_LOCAL, OF_DEVICES])
@pytest.mark.usefixtures("rtnl")
async def test_rule_is_there_as_it_was_made_until_it_is_deleted(rule: RoutingRule) -> None:
    reader = KernelReader()
    reader.start()
    try:
        before = await reader.rules()
        assert refusals(encode_add_rule(rule)) == []
        assert await reader.rules() - before == {rule}
        (again,) = refusals(encode_add_rule(rule, sequence=77))
        assert (again.code, read_sequence(again.request)) == (errno.EEXIST, 77)
        assert refusals(encode_delete_rule(rule)) == []
        assert await reader.rules() == before
        (gone,) = refusals(encode_delete_rule(rule, sequence=78))
        assert (gone.code, read_sequence(gone.request)) == (errno.ENOENT, 78)
    finally:
        reader.stop()


async def test_refusal_has_the_kernels_words_and_errno_names_itself(rtnl: Rtnl) -> None:
    too_long = RoutingRule(family=V4, priority=1, protocol=217, table=7, to=b"\x21\x0a\0\0\0")
    (refused,) = refusals(encode_add_rule(too_long))
    assert refused.code == errno.EINVAL
    assert refused.words
    assert str(refused) == f"Invalid argument: {refused.words}"
    assert str(await rtnl.set_link_up(99)) == "No such device"


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.usefixtures("rtnl")
async def test_unreachable_default_ends_a_table_and_takes_nobodys_place(family: Family) -> None:
    number = "-4" if family is V4 else "-6"
    assert refusals(encode_last_resort(family, 1001, 217)) == []
    shown = ip(f"-N {number} route show table 1001")
    assert shown.startswith("7 default"), "RTN_UNREACHABLE"
    assert "proto 217 metric 4278198272" in shown
    assert [error.code for error in refusals(encode_last_resort(family, 1001, 217))] == [errno.EEXIST]
    assert refusals(encode_last_resort(family, 1001, 217, gone=True)) == []
    assert [error.code for error in refusals(encode_last_resort(family, 1001, 217, gone=True))] == [errno.ESRCH]


async def test_link_is_found_by_name_and_changed(rtnl: Rtnl) -> None:
    found = await rtnl.device("eth0")
    assert found is not None
    assert (found.index, found.kind, found.table, found.alias) == (5, "veth", 0, "")
    assert await rtnl.device("nothing") is None
    ip("link set eth0 down")
    assert await rtnl.set_alias(5, "bgpd: VRF blue") is None
    assert await rtnl.set_link_up(5) is None
    assert "UP" in ip("-o link show eth0")
    found = await rtnl.device("eth0")
    assert found is not None
    assert found.alias == "bgpd: VRF blue"
    assert await rtnl.delete_link(5) is None
    assert await rtnl.device("eth0") is None


@pytest.mark.vm
async def test_vrf_device_is_up_has_its_table_and_takes_links_in(rtnl: Rtnl) -> None:
    assert await rtnl.add_vrf_device("blue", 1001) is None
    device = await rtnl.device("blue")
    assert device is not None
    assert (device.kind, device.table) == ("vrf", 1001)
    assert ",UP" in ip("-o link show blue")
    assert await rtnl.set_master(5, device.index) is None
    assert "master blue" in ip("-o link show eth0")
    assert await rtnl.set_master(5, 0) is None
    assert "master" not in ip("-o link show eth0")


async def test_permanent_ipv6_addresses_are_kept_as_they_were(rtnl: Rtnl) -> None:
    ip("-6 addr add 2001:db8::1/64 dev eth0 nodad")
    ip("-6 addr add 2001:db8::2/128 dev eth0 nodad home noprefixroute")
    ip("-6 addr add fe80::7/64 dev eth0 nodad")
    ip("-6 addr add 2001:db8::3/64 dev eth0 nodad valid_lft 1000 preferred_lft 900")
    ip("-6 addr add 2001:db8:9::1/64 dev leaf0 nodad")

    def addresses() -> dict[str, set[str]]:
        lines = [line.split() for line in ip("-6 -o addr show dev eth0").splitlines()]
        return {line[3]: {"nodad", "home", "noprefixroute"} & set(line) for line in lines}

    before = addresses()
    async with rtnl.addresses_kept(5):
        ip("link set eth0 down")
        ip("link set eth0 up")
        assert "2001:db8::1/64" not in addresses()
    del before["2001:db8::3/64"]
    await until(lambda: addresses() == before, addresses)


async def test_link_that_is_gone_has_no_addresses_to_keep(rtnl: Rtnl) -> None:
    async with rtnl.addresses_kept(99):
        pass


async def test_without_the_capability_the_kernel_refuses_and_nothing_ends(rtnl: Rtnl) -> None:
    """The thread that asks has lost CAP_NET_ADMIN, as with a unit that grants none."""

    async def drop(_kernel: object) -> None:
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).syscall(126, header, data) == 0  # capset(2), of this thread alone

    await rtnl._ask(drop)
    refused = await rtnl.set_alias(5, "x")
    assert refused is not None
    assert refused.code == errno.EPERM
    assert await rtnl.device("eth0") is not None


async def test_lost_answer_is_an_error_and_the_next_question_is_asked_anew(
    rtnl: Rtnl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtnl_module, "_ANSWER_S", 0.05)
    with pytest.raises(TimeoutError):
        await rtnl._ask(lambda _kernel: asyncio.sleep(3600))
    monkeypatch.undo()
    assert await rtnl.device("eth0") is not None
