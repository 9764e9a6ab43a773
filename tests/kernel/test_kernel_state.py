"""The kernel's known state: every change is told once, and a reading of the tables tells only differences."""

from __future__ import annotations

from bgpd.kernel.monitor import KernelSnapshot, KernelState
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, Link, LinkChanged

ETH0 = Link(index=2, name="eth0", up=True)
ADDRESS = Address(interface="eth0", packed=b"\x0a\0\0\1", prefix_length=24)


def started() -> tuple[KernelState, list[KernelEvent]]:
    events: list[KernelEvent] = []
    return KernelState(events.append), events


def test_repeated_notifications_make_one_event() -> None:
    state, events = started()
    for _ in range(2):
        state.link(ETH0, gone=False)
        state.address(ADDRESS, gone=False)
    assert events == [LinkChanged(ETH0), AddressChanged(ADDRESS)]


def test_renamed_link_is_gone_by_its_old_name() -> None:
    state, events = started()
    state.link(ETH0, gone=False)
    renamed = Link(index=2, name="uplink", up=True)
    state.link(renamed, gone=False)
    assert events[1:] == [LinkChanged(ETH0, gone=True), LinkChanged(renamed)]


def test_reading_tells_differences_only() -> None:
    state, events = started()
    state.link(ETH0, gone=False)
    events.clear()
    state.begin_reading()
    state.replace(KernelSnapshot(links={2: ETH0}, addresses=[ADDRESS]))
    assert events == [AddressChanged(ADDRESS)]


def test_what_was_notified_during_a_reading_is_newer_than_it() -> None:
    state, events = started()
    state.begin_reading()
    state.link(ETH0, gone=False)
    state.link(ETH0, gone=True)
    state.replace(KernelSnapshot(links={2: ETH0}))
    assert events == [LinkChanged(ETH0), LinkChanged(ETH0, gone=True)]
