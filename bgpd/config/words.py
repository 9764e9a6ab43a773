"""The single words of a configuration: AS numbers, prefixes, addresses, interface names, choices.

Each `bad_*` function answers None, or what is wrong and what would be right. Knows no section; only `bad_file` and
`exposed_secret` look at files.

What [[vrf]] leaves to be worked out: automatic route distinguishers and route targets, as the bytes of the wire.
"""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from bgpd.config.schema import DEFAULT_ASN_RANGE, RouterConfig, VrfConfig
from bgpd.config.shape import did_you_mean
from bgpd.model.communities import (
    automatic_route_distinguisher,
    automatic_route_target,
    parse_route_distinguisher,
    parse_route_target,
)
from bgpd.model.iana import AS_TRANS, Family

Wrong = tuple[str, str]

RESERVED_AS_NUMBERS = {0: "RFC 7607", AS_TRANS: "AS_TRANS, RFC 6793", 65535: "RFC 7300", 0xFFFFFFFF: "RFC 7300"}
INTERFACE_NAME_BYTES = 15
"""IFNAMSIZ of linux/if.h less the closing zero."""


def bad_as_number(asn: int) -> Wrong | None:
    """An AS number that no router may have."""
    if asn in RESERVED_AS_NUMBERS:
        return f"{asn} is reserved ({RESERVED_AS_NUMBERS[asn]})", "private numbers are 64512 to 65534"
    return None


def parse_as_range(text: str) -> tuple[int, int]:
    """First and last of "4200000000-4294967294". Raises: ValueError: not of that form."""
    first, separator, last = text.partition("-")
    if not separator or not (first.isdecimal() and last.isdecimal() and text.isascii()):
        raise ValueError(f'"{text}" is no range of AS numbers')
    return int(first), int(last)


def bad_as_range(text: str) -> Wrong | None:
    """A text that is no range of AS numbers that routers may have."""
    right = f'write "FIRST-LAST", such as "{DEFAULT_ASN_RANGE}" (private, RFC 6996)'
    try:
        first, last = parse_as_range(text)
    except ValueError as error:
        return str(error), right
    if not 1 <= first <= last <= 0xFFFFFFFE:
        return f'"{text}" is no range of AS numbers', right
    for reserved, why in RESERVED_AS_NUMBERS.items():
        if first <= reserved <= last:
            return f'"{text}" has {reserved} in it, which is reserved ({why})', right
    return None


def bad_prefix(text: str, *, workload: bool = False) -> Wrong | None:
    """A text that is not a prefix; of a workload, also one that no workload can have."""
    if "%" in text:
        return f'"{text}" has a scope', f'a prefix has none: write "{_without_scope(text)}"'
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            right = f'write "{ipaddress.ip_network(text, strict=False)}", or all the address and /32 or /128'
        except ValueError:
            return f'"{text}" is not a prefix', 'such as "10.64.1.0/24" or "2001:db8:1::/64"'
        return f'"{text}" has host bits set', right
    if workload:
        for what, kind in (
            (network.is_multicast, "multicast"),
            (network.is_loopback, "loopback"),
            (network.is_link_local, "link-local"),
            (network.is_unspecified or network.prefixlen == 0, "the default or unspecified"),
        ):
            if what:
                return f'"{text}" is {kind}', "a workload has unicast addresses of its own"
    return None


def _without_scope(text: str) -> str:
    """An address or a prefix without the interface in it: "fe80::%eth0/64" is "fe80::/64"."""
    address, _, rest = text.partition("%")
    _, slash, length = rest.partition("/")
    return f"{address}{slash}{length}"


def bad_address(text: str) -> Wrong | None:
    """A text that is not a host's address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if "/" in text:
            return f'"{text}" is a prefix', f'write the address alone: "{text.split("/")[0]}"'
        return f'"{text}" is not an IP address', 'such as "10.0.1.2" or "2001:db8::1"'
    if getattr(address, "scope_id", None):
        bare = text.split("%")[0]
        return f'"{text}" has a scope', f'write address = "{bare}" and interface = "{text.split("%")[1]}"'
    if address.is_multicast or address.is_unspecified:
        return f'"{text}" is no host\'s address', "write the neighbor's unicast address"
    return None


def bad_interface(name: str) -> Wrong | None:
    """A name that no Linux interface can have (globs are let through)."""
    if not name:
        return "is empty", "write an interface's name"
    if len(name.encode()) > INTERFACE_NAME_BYTES:
        return f'"{name}" has {len(name.encode())} bytes', f"interface names have at most {INTERFACE_NAME_BYTES}"
    if name in (".", "..") or any(character.isspace() or character in "/:" for character in name):
        return f'"{name}" cannot be an interface', 'no spaces, "/" or ":" in a name'
    return None


def bad_interface_pattern(pattern: str) -> Wrong | None:
    """A pattern (fnmatch) for interfaces that no neighbor can have."""
    if any(character.isspace() or character in "/:" for character in pattern):
        return f'"{pattern}" cannot match an interface', 'no spaces, "/" or ":" in a name'
    if not pattern.strip("*?"):
        return f'"{pattern}" matches every interface, of workloads too', 'write what uplinks are called, such as "eth*"'
    if pattern.count("[") != pattern.count("]"):
        return f'"{pattern}" has a "[" without a "]"', 'such as "eth[0-3]"'
    return None


_MOST_NAMED = 12


def missing_interface(name: str, known: Iterable[str]) -> Wrong | None:
    """An interface that a host does not have; `known` are those that it has."""
    names = sorted(set(known) - {"lo"})
    if name in names or name == "lo":
        return None
    import difflib  # as in shape.py

    nearest = sorted(difflib.get_close_matches(name, names, n=_MOST_NAMED, cutoff=0.0))
    more = f" and {len(names) - len(nearest)} more" if len(names) > len(nearest) else ""
    return f"there is no interface {name}", f"this host has {', '.join(nearest) or 'none but lo'}{more}"


def bad_file(file: str) -> Wrong | None:
    """A file that cannot be read, or whose reading might never end."""
    try:
        if not stat.S_ISREG(Path(file).stat().st_mode):
            return f'"{file}" is not a regular file', "name the file itself"
        with open(file, "rb"):
            pass
    except OSError as error:
        return f'"{file}" cannot be read: {error.strerror}', "it must be readable by the user that bgpd runs as"
    return None


def exposed_secret(file: str) -> Wrong | None:
    """A file with a secret that every user of the host can read or change."""
    try:
        mode = stat.S_IMODE(Path(file).stat().st_mode)
    except OSError:
        return None
    if not mode & 0o006:
        return None
    return f'"{file}" is open to every user of this host (mode {mode:04o})', "chown root:bgpd, chmod 640"


def one_of(word: str, known: Sequence[str]) -> Wrong | None:
    """A word that is none of the known ones."""
    if word in known:
        return None
    return f'"{word}" is unknown', did_you_mean(word, list(known))


def bad_families(names: Sequence[str]) -> tuple[int, Wrong] | None:
    """The first family that is unknown or given twice, with its index."""
    for index, name in enumerate(names):
        if wrong := one_of(name, list(Family)):
            return index, wrong
        if name in names[:index]:
            return index, (f'"{name}" is given twice', "remove one")
    return None


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:9179" or "[::1]:9179".

    Raises: ValueError: not of that form.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f'"{text}" is not an address and a port') from None
    if address.version == 6 and bare == host:
        raise ValueError(f'"{text}" needs brackets around the IPv6 address')
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f'"{text}": the port must be from 1 to 65535')
    return bare, int(port)


AUTOMATIC = "auto"


def vrf_distinguisher(router: RouterConfig, vrf: VrfConfig) -> bytes:
    """The 8 bytes of a VRF's route distinguisher; "auto" is type 1, router-id:table (RFC 7432 section 7.9).

    Raises: ValueError: it does not parse, or the table does not fit 16 bits. AddressValueError: a bad router_id.
    """
    if vrf.rd == AUTOMATIC:
        return automatic_route_distinguisher(ipaddress.IPv4Address(router.router_id).packed, vrf.table)
    return parse_route_distinguisher(vrf.rd)


def vrf_target(router: RouterConfig, vrf: VrfConfig, text: str) -> bytes:
    """The 8 bytes of one of a VRF's route targets; "auto" is "asn:vni".

    Raises: ValueError: it does not parse, or cannot be made automatically.
    """
    return automatic_route_target(router.asn, vrf.vni) if text == AUTOMATIC else parse_route_target(text)


def vrf_targets(router: RouterConfig, vrf: VrfConfig, texts: tuple[str, ...]) -> tuple[bytes, ...]:
    """Route targets of `import_rt` or `export_rt`, in order, each once.

    Raises: ValueError: see `vrf_target`.
    """
    return tuple(dict.fromkeys(vrf_target(router, vrf, text) for text in texts))
