"""What the longest UPDATEs cost that a neighbor can send (65,535 bytes, RFC 8654): `python -m tests.fuzz.longest`.

Made to be dear: as many routes, attributes or segments as there is room for. Prints CPU time of the decoder for each.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from bgpd.model.iana import Family
from tests.message.decoding import (
    AS_PATH,
    GLOBAL,
    MANDATORY,
    NEXT_HOP,
    ORIGIN,
    attribute,
    decoder,
    reach,
    unreach,
    update,
)
from tests.message.test_plain_updates import EVPN_ROUTES

BYTES = 64_900
EVPN_HOP = b"\x0a\0\1\2"
TRIES = 3


def filled(piece: bytes, most: int = BYTES) -> bytes:
    """As often as there is room for it."""
    return piece * (most // len(piece))


def random_prefixes(longest: int, begin: bytes = b"", seed: int = 1) -> bytes:
    """Of any length, with host bits."""
    chance, found = random.Random(seed), bytearray()
    while len(found) < BYTES - 20:
        length = chance.randint(8 * len(begin), longest)
        found += bytes((length,)) + begin + chance.randbytes((length + 7) // 8 - len(begin))
    return bytes(found)


def random_evpn(seed: int = 1) -> bytes:
    """Short routes of any type."""
    chance, found = random.Random(seed), bytearray()
    while len(found) < BYTES - 20:
        length = chance.randrange(12)
        found += bytes((chance.randrange(256), length)) + chance.randbytes(length)
    return bytes(found)


def _evpn(routes: bytes) -> bytes:
    return update(reach(25, 70, EVPN_HOP, routes) + ORIGIN + AS_PATH)


def _path(path: bytes, kind: int = 2, flags: int = 0x40) -> bytes:
    return attribute(kind, path, flags)


def _of_two_octets() -> bytes:
    merged = _path(filled(b"\2\1\xfe\xb1", 32_000)) + _path(filled(b"\2\1\0\0\xfe\xb1", 30_000), 17, 0xC0)
    return update(ORIGIN + NEXT_HOP + merged, b"\0")


MESSAGES: dict[str, tuple[Callable[[], bytes], dict[str, Any]]] = {
    "default routes": (lambda: update(MANDATORY, filled(b"\0")), {}),
    "random IPv4 prefixes": (lambda: update(MANDATORY, random_prefixes(32)), {}),
    "martians with host bits": (lambda: update(MANDATORY, random_prefixes(32, b"\x7f")), {}),
    "32,500 martians": (lambda: update(MANDATORY, filled(b"\x08\x7f")), {}),
    "random withdrawals": (lambda: update(withdrawn=random_prefixes(32)), {}),
    "path identifiers": (
        lambda: update(MANDATORY, filled(b"\0\0\0\1\0")),
        {"add_path": frozenset((Family.IPV4_UNICAST,))},
    ),
    "random IPv6 prefixes": (lambda: update(reach(2, 1, GLOBAL, random_prefixes(128)) + ORIGIN + AS_PATH), {}),
    "random IPv6 withdrawals": (lambda: update(unreach(2, 1, random_prefixes(128))), {}),
    "1,600 EVPN routes": (lambda: _evpn(filled(EVPN_ROUTES[0])), {}),
    "EVPN routes of any type": (lambda: _evpn(random_evpn()), {}),
    "large communities": (lambda: update(MANDATORY + attribute(32, filled(bytes(12)), 0xC0), b"\0"), {}),
    "10,800 path segments": (lambda: update(ORIGIN + NEXT_HOP + _path(filled(b"\2\1\0\0\xfe\xb1")), b"\0"), {}),
    "2-octet segments, and AS4_PATH": (_of_two_octets, {"four_octet_as": False}),
    "21,000 unknown attributes": (
        lambda: update(MANDATORY + b"".join(bytes((0xC0, 100 + n % 150, 0)) for n in range(21_000)), b"\0"),
        {},
    ),
    "16,000 tunnels": (lambda: update(MANDATORY + attribute(23, filled(b"\0\1\0\0"), 0xC0), b"\0"), {}),
    "21,000 fields of PREFIX_SID": (
        lambda: update(MANDATORY + attribute(40, filled(b"\x09\0\0"), 0xC0), b"\0"),
        {"ibgp": True},
    ),
}


def cpu_s(body: bytes, session: dict[str, Any]) -> float:
    """CPU time of the decoder, the least of some tries."""
    least = float("inf")
    for _ in range(TRIES):
        one = decoder(accept_martians=False, **session)
        began = time.thread_time()
        if not one.read_run([body], []):
            one.decode(body)
        least = min(least, time.thread_time() - began)
    return least


def main() -> None:
    """Prints the table."""
    for name, (made, session) in MESSAGES.items():
        body = made()
        assert len(body) + 19 <= 65_535, name
        print(f"{1000 * cpu_s(body, session):6.1f} ms  {name}")


if __name__ == "__main__":
    main()
