"""Parts of many EVPN route keys at once (their layout is model/evpn.py's): what they share, and the prefixes in them.

Hot path, compiled (docs/decisions/0021): each key of an import passes through here once or twice. Only cuts bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HEAD: Final = 13
"""Bytes of a key that name its type, route distinguisher and Ethernet Tag."""
_IP_AT: Final = 19
"""Where the IP of a type 2 key begins."""


def common_head(keys: Sequence[bytes]) -> bytes:
    """The head of keys that are of one length and have the same; b"" of others."""
    first = keys[0]
    head, size, count = first[:HEAD], len(first), len(keys)
    if count == 1:
        return head
    for key in keys:
        if len(key) != size:
            return b""
    joined = b"".join(keys)
    for at in range(len(head)):
        if joined[at::size] != head[at : at + 1] * count:
            return b""
    return head


def split_by_head(keys: Sequence[bytes]) -> list[tuple[bytes, list[bytes]]]:
    """Each head with the keys of one length that begin with it, in their order."""
    found: dict[tuple[bytes, int], list[bytes]] = {}
    head, size = b"", -1
    alike: list[bytes] = []
    for key in keys:
        if len(key) != size or key[:HEAD] != head:
            head, size = key[:HEAD], len(key)
            alike = found.setdefault((head, size), [])
        alike.append(key)
    return [(one[0], chosen) for one, chosen in found.items()]


def host_prefixes(keys: Sequence[bytes]) -> list[bytes]:
    """The host prefixes (unicast route keys) of type 2 keys of one length."""
    length = bytes((8 * (len(keys[0]) - _IP_AT),))
    return [length + key[_IP_AT:] for key in keys]


def ip_prefixes(keys: Sequence[bytes]) -> list[bytes]:
    """The prefixes (unicast route keys) of type 5 keys."""
    return [key[HEAD : HEAD + 1 + ((key[HEAD] + 7) >> 3)] for key in keys]
