"""The interfaces of this network namespace, read at once, for the time before the kernel is followed (monitor.py) and
for commands.
"""

from __future__ import annotations

import errno
from pathlib import Path

from bgpd.kernel.link_messages import encode_dump_request, read_link
from bgpd.kernel.netlink import DumpInterrupted, MessageKind, dump, messages, open_socket
from bgpd.model.kernel import Link

_TRIES = 20
_SYSFS = Path("/sys/class/net")
_RECEIVE_BYTES = 4 << 20


def read_interfaces() -> dict[str, str]:
    """The VRF of each interface by name, "" for the main table; the oldest first. A VRF device belongs to itself.

    Raises: OSError: the kernel gives no answer.
    """
    with open_socket(receive_bytes=_RECEIVE_BYTES) as opened:
        opened.settimeout(30)
        for _ in range(_TRIES):
            try:
                payloads = [
                    data[start:end]
                    for data in dump(opened, encode_dump_request(MessageKind.GET_LINK))
                    for kind, _flags, _sequence, start, end in messages(data)
                    if kind == MessageKind.NEW_LINK
                ]
            except DumpInterrupted:
                continue
            return _vrfs_of(payloads)
    raise OSError(errno.EBUSY, f"the links of this host changed during each of {_TRIES} dumps")


def _vrfs_of(payloads: list[bytes]) -> dict[str, str]:
    names: dict[int, str] = {}
    links: list[Link] = []
    for _ in range(2):  # a link may stand before the device of its VRF
        links = [read_link(payload, 0, len(payload), lambda index: names.get(index, "")) for payload in payloads]
        names.update((link.index, link.name) for link in links)
    found = sorted(links, key=lambda link: link.index)
    return {link.name: link.name if link.kind == "vrf" else link.vrf for link in found}


def speed_mbps(interface: str) -> int | None:
    """The speed of an interface, in Mbit/s, as its driver says it; None if it does not."""
    try:
        speed = int((_SYSFS / interface / "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None
