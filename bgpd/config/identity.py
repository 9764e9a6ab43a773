"""asn = "auto" and router_id = "auto": numbers of this host's own, from one file for all hosts.

They come from the host's IPv4 loopback address, else from a hash of its machine ID and name. What was chosen is kept in
the state directory, so that an address that comes late, or goes, changes nothing. It is chosen anew where it was made
from what this host has no longer: a host that was given another loopback, a disk that was copied.
"""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path
from typing import Any

import msgspec

from bgpd.config.facts import Facts
from bgpd.config.schema import DEFAULT_ASN_RANGE, StateConfig
from bgpd.config.shape import Finding
from bgpd.config.words import AUTOMATIC, bad_as_range, parse_as_range
from bgpd.model.identity import Chosen, Identity, Origin
from bgpd.model.unreadable import UNREADABLE

FILE = "identity.json"
"""In the state directory."""
HASH_BLOCK = ipaddress.IPv4Network("10.0.0.0/8")
"""Router IDs that are hashes are in it: they need be no addresses, but some routers refuse what cannot be one."""
_WORDS = {
    Origin.LOOPBACK: "the loopback address {}",
    Origin.MACHINE_ID: "a hash of the machine ID",
    Origin.HOSTNAME: "a hash of the host name {}",
}


class Resolved(msgspec.Struct, kw_only=True):
    """What became of "auto" in a configuration. `is_early`: a value was chosen for the first time without a loopback
    address, which a host that boots may get a little later."""

    identity: Identity = Identity()
    findings: list[Finding] = []
    warnings: list[Finding] = []
    is_early: bool = False


def resolve(data: dict[str, Any], facts: Facts, former: Identity) -> Resolved:
    """Put numbers in the place of "auto" in the data of a configuration.

    `former` is what was chosen before, as far as the caller knows; else the state directory says it.
    """
    resolved = Resolved()
    router = data.get("router")
    if not isinstance(router, dict):
        return resolved
    asn, router_id = router.get("asn"), router.get("router_id")
    if isinstance(asn, str) and asn != AUTOMATIC:
        right = f'must be a whole number or "{AUTOMATIC}"'
        resolved.findings = [Finding(("router", "asn"), f'is the text "{asn}"', right)]
    if AUTOMATIC not in (asn, router_id):
        return resolved
    directory = _state_directory(data)
    saved, problem = read_identity(directory)
    if problem:
        right = "the numbers are chosen anew, and kept there"
        resolved.warnings.append(Finding(("router",), problem, right))
    former = former.or_else(saved)
    if router_id == AUTOMATIC:
        chosen = _settle(("router", "router_id"), _router_id(facts), former.router_id, facts, directory, resolved)
        router["router_id"] = chosen.value
        resolved.identity = msgspec.structs.replace(resolved.identity, router_id=chosen)
    if asn == AUTOMATIC:
        text = router.get("asn_range", DEFAULT_ASN_RANGE)
        if not isinstance(text, str) or bad_as_range(text):
            router["asn"] = 1  # what is wrong with the range, the checks say
            return resolved
        chosen = _settle(("router", "asn"), _asn(facts, text), former.asn, facts, directory, resolved)
        router["asn"] = int(chosen.value)
        resolved.identity = msgspec.structs.replace(resolved.identity, asn=chosen)
    return resolved


def read_identity(directory: str) -> tuple[Identity, str]:
    """What is kept in a state directory, and why it cannot be used, if it cannot. What this user may not read is not
    there."""
    path = Path(directory) / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity), ""
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Identity(), ""
    except (OSError, *UNREADABLE) as error:
        return Identity(), f"what was chosen before cannot be read: {path}: {getattr(error, 'strerror', None) or error}"


def origin_text(chosen: Chosen) -> str:
    """What a value was made from, for people."""
    return _WORDS[chosen.origin].format(chosen.of)


def _settle(
    path: tuple[str, str], fresh: Chosen, former: Chosen | None, facts: Facts, directory: str, resolved: Resolved
) -> Chosen:
    """The former choice while it holds, else the fresh one; what is to be said of it goes into `resolved`."""
    if former is None or former.asn_range != fresh.asn_range or not _is_valid(former):
        resolved.is_early = resolved.is_early or fresh.origin is not Origin.LOOPBACK
        return fresh
    if _holds(former, facts):
        if former.value != fresh.value and fresh.origin is Origin.LOOPBACK:
            what = f'is "auto": {former.value} is kept, made from {origin_text(former)}'
            right = f"from {origin_text(fresh)} it would be {fresh.value}: remove {directory}/{FILE} and restart bgpd"
            resolved.warnings.append(Finding(path, what, right))
        return former
    if former.value != fresh.value:
        what = f'is "auto": it is {fresh.value} now, and was {former.value}'
        right = f"this host no longer has what that was made from: {origin_text(former)}"
        resolved.warnings.append(Finding(path, what, right))
    return fresh


def _is_valid(chosen: Chosen) -> bool:
    """Whether a saved value is of the form of what it is for."""
    try:
        if chosen.asn_range:
            first, last = parse_as_range(chosen.asn_range)
            return first <= int(chosen.value) <= last
        address = ipaddress.IPv4Address(chosen.value)
        return not (address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF)
    except ValueError:
        return False


def _holds(former: Chosen, facts: Facts) -> bool:
    """Whether this host still has, or for all that is known may have, what a value was made from."""
    match former.origin:
        case Origin.LOOPBACK:
            return facts.loopback4() in ("", former.of) or facts.has_loopback4(former.of)
        case Origin.MACHINE_ID:
            return not facts.machine_id or _digest(facts.machine_id) == former.of
        case Origin.HOSTNAME:
            return facts.hostname == former.of


def _router_id(facts: Facts) -> Chosen:
    address = facts.loopback4()
    if address:
        return Chosen(value=address, origin=Origin.LOOPBACK, of=address)
    number = _hash(facts, "router_id") % (HASH_BLOCK.num_addresses - 2) + 1
    return Chosen(value=str(HASH_BLOCK[number]), **_of_hash(facts))


def _asn(facts: Facts, text: str) -> Chosen:
    first, last = parse_as_range(text)
    address = facts.loopback4()
    if address:
        number = first + int(ipaddress.IPv4Address(address)) % (last - first + 1)
        return Chosen(value=str(number), origin=Origin.LOOPBACK, of=address, asn_range=text)
    number = first + _hash(facts, "asn") % (last - first + 1)
    return Chosen(value=str(number), asn_range=text, **_of_hash(facts))


def _of_hash(facts: Facts) -> dict[str, Any]:
    if facts.machine_id:
        return {"origin": Origin.MACHINE_ID, "of": _digest(facts.machine_id)}
    return {"origin": Origin.HOSTNAME, "of": facts.hostname}


def _hash(facts: Facts, purpose: str) -> int:
    """Of machine ID and name: copies of a disk often have one machine ID, and no two hosts should have one name."""
    text = "\0".join(("bgpd", purpose, facts.machine_id, facts.hostname))
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8])


def _digest(machine_id: str) -> str:
    """A machine ID is not to be shown (machine-id(5))."""
    return hashlib.sha256(f"bgpd\0{machine_id}".encode()).hexdigest()[:16]


def _state_directory(data: dict[str, Any]) -> str:
    state = data.get("state")
    directory = state.get("directory") if isinstance(state, dict) else None
    return directory if isinstance(directory, str) else StateConfig().directory
