"""What orchestrators send, checked: JSON bytes become a Workload, Service or Sync, or errors that say what to do.

Every error has a path into the payload, what is wrong there, and what would be right. Nothing is guessed or repaired; a
payload is taken as a whole or not at all. Does no I/O.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re
import typing
from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec

from bgpd.model.iana import Family
from bgpd.model.martians import martians
from bgpd.model.prefix import covers, key_of, parse_host, parse_prefix
from bgpd.model.reports import Problem
from bgpd.model.service import Backend, CheckType, HealthCheck, Service
from bgpd.model.workload import Claim, Sync, Workload
from bgpd.workload.service.dns import is_name

MAX_PAYLOAD = 64 * 1024
"""Bytes; longer payloads are refused unread."""
MAX_PROBLEMS = 16
MAX_TEXT = 300
"""Of a refused payload, so many problems are reported, each text cut after so many characters: reports are kept."""
_SHORTEST = {Family.IPV4_UNICAST: 8, Family.IPV6_UNICAST: 16}
"""Prefix lengths: what is shorter is a large part of all addresses, and no workload."""

_Payload = TypeVar("_Payload", Workload, Service, Sync)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PayloadRefused(ValueError):
    """A payload that is not taken; `problems` says why, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        reported = [Problem(_cut(one.path), _cut(one.wrong), _cut(one.right)) for one in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            reported.append(Problem("", "there are more problems", "correct these first"))
        super().__init__("; ".join(map(str, reported)))
        self.problems = tuple(reported)


def decode_workload(body: bytes, *, id: str, vrfs: Collection[str]) -> Workload:
    """The workload `id` of a payload. `vrfs` are the configured VRFs ("" for the main table).

    Raises: PayloadRefused.
    """
    workload = _decode(body, Workload)
    problems = _check_vrf(workload.vrf, vrfs) + check_workload(workload, id)
    if problems:
        raise PayloadRefused(problems)
    return workload


def decode_service(
    body: bytes, *, name: str, vrfs: Collection[str], commands: Collection[str] | None = None
) -> Service:
    """The service `name` of a payload. `commands` are the files that exec checks may run, None if they may run none.

    Raises: PayloadRefused.
    """
    service = _decode(body, Service)
    problems = _check_vrf(service.vrf, vrfs)
    problems += _check_command("check", service.check, commands) + _check_command("probe", service.probe, commands)
    problems += check_service(service, name)
    if problems:
        raise PayloadRefused(problems)
    return service


def check_workload(workload: Workload, id: str) -> list[Problem]:
    """What is wrong with a workload, regardless of this host's configuration."""
    problems = _check_name("id", id, workload.id)
    problems += _check_addresses("addresses", workload.addresses)
    problems += _check_mac(workload.mac)
    if workload.interface in (".", ".."):
        problems.append(Problem("interface", f'"{workload.interface}" is no interface name', 'such as "tap0"'))
    return problems


def check_service(service: Service, name: str) -> list[Problem]:
    """Likewise, of a service."""
    problems = _check_name("name", name, service.name)
    problems += _check_addresses("addresses", service.addresses, hosts_only=True)
    problems += _check_check("check", service.check) + _check_check("probe", service.probe)
    return problems + _check_backends(service.backends)


def is_publishable(name: str) -> bool:
    """Whether a topic can have this name of a workload or service as a part: nothing is published of others.

    Brokers close connections for control characters and noncharacters in topics (MQTT 5 section 1.5.4).
    """
    return len(name) <= MAX_NAME and name.isprintable()


def decode_sync(body: bytes) -> Sync:
    """Raises: PayloadRefused."""
    return _decode(body, Sync)


def claims_of(workload: Workload, *, source: str, id: str) -> tuple[Claim, ...]:
    """What a checked workload claims: one claim per address."""
    mac = bytes.fromhex(workload.mac.replace(":", "").replace("-", ""))
    claims = []
    for text in workload.addresses:
        family, key = parse_prefix(text)
        claims.append(
            Claim(
                source=source,
                id=id,
                family=family,
                key=key,
                interface=workload.interface,
                vrf=workload.vrf,
                manage_route=bool(workload.interface),
                needs_route=not workload.interface,
                kind=workload.kind,
                mac=mac,
                sticky=workload.sticky,
                exception=workload.exception,
            )
        )
    return tuple(claims)


def _decode(body: bytes, kind: type[_Payload]) -> _Payload:
    if len(body) > MAX_PAYLOAD:
        raise PayloadRefused(
            [Problem("", f"the payload has {len(body)} bytes", f"at most {MAX_PAYLOAD} are taken; nothing was read")]
        )
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise PayloadRefused([_explain(str(error), kind)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wrong = f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        raise PayloadRefused([Problem("", wrong, f"a JSON object with {_fields(kind)}")]) from None


def _explain(message: str, kind: type[_Payload]) -> Problem:
    """msgspec's words, such as "Expected `str`, got `int` - at `$.addresses[0]`", with path and remedy apart."""
    wrong, _, where = message.partition(" - at `")
    path = where.rstrip("`").removeprefix("$").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", wrong)
    if unknown:
        import difflib  # 0.2 MB, for mistakes only

        known = _fields_at(path, kind)
        close = difflib.get_close_matches(unknown[1], known, n=1)
        right = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
        return Problem(f"{path}.{unknown[1]}".removeprefix("."), "unknown field", right)
    missing = re.search(r"missing required field `(.*)`", wrong)
    if missing:
        return Problem(f"{path}.{missing[1]}".removeprefix("."), "is missing", f"required are {_required(path, kind)}")
    if wrong.endswith("`array` of length >= 1"):
        wrong = "is empty"
    return Problem(path, wrong.replace("`", '"'), _remedy(path, kind))


def _remedy(path: str, kind: type[_Payload]) -> str:
    """What the field at `path` should be, in the words of its own definition."""
    if not path:
        return f"a JSON object with {_fields(kind)}"
    name = re.split(r"\[", path.rpartition(".")[2])[0]
    hint = _type_hints(_struct_at(path, kind)).get(name)
    description = ""
    while typing.get_origin(hint) is typing.Annotated:
        hint, *metas = typing.get_args(hint)
        description = next((m.description for m in metas if getattr(m, "description", None)), "") or description
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(str(member) for member in hint)}"
    return description


def _struct_at(path: str, kind: type[_Payload]) -> type[msgspec.Struct]:
    if kind is Service and path.startswith("backends"):
        return Backend
    if kind is Service and path.startswith(("check", "probe")):
        return HealthCheck
    return kind


def _fields_at(path: str, kind: type[_Payload]) -> list[str]:
    return [field.encode_name for field in _struct_fields(_struct_at(path, kind))]


def _required(path: str, kind: type[_Payload]) -> str:
    fields = _struct_fields(_struct_at(path, kind))
    return ", ".join(field.encode_name for field in fields if field.required)


def _fields(kind: type[_Payload]) -> str:
    return ", ".join(_fields_at("", kind))


# Each takes a millisecond, and a refused payload asks.
_type_hints = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))
_struct_fields = functools.cache(msgspec.structs.fields)


def _check_name(field: str, name: str, given: str | None) -> list[Problem]:
    if not _IDENTIFIER.match(name):
        return [Problem(field, f'"{name[:80]}" is no {field}', "letters, digits and . _ : @ -, at most 253")]
    if given is not None and given != name:
        return [Problem(field, f'"{given}" is not the "{name}" of the topic or URL', "give the same, or leave it out")]
    return []


def _check_vrf(vrf: str, vrfs: Collection[str]) -> list[Problem]:
    if vrf in vrfs:
        return []
    known = ", ".join(sorted(name for name in vrfs if name)) or "none"
    return [Problem("vrf", f'there is no VRF "{vrf}" on this host', f'configured: {known}; "" is the main table')]


def _check_addresses(field: str, addresses: Sequence[str], *, hosts_only: bool = False) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[tuple[Family, bytes], int] = {}
    for index, text in enumerate(addresses):
        if len(problems) > MAX_PROBLEMS:
            break
        host = parse_host(text)
        if host is not None and host not in seen and not _unusable(*host):
            seen[host] = index
            continue
        path = f"{field}[{index}]"
        network = _network(text)
        if isinstance(network, str):
            problems.append(Problem(path, network, _right_address(text)))
            continue
        problem = _unusable(*_place(network))
        if problem:
            problems.append(Problem(path, f"{text} {problem}", "a workload has a unicast address of the fabric"))
        elif hosts_only and network.prefixlen != network.max_prefixlen:
            problems.append(Problem(path, f"{text} is a prefix", f"one address, such as {network.network_address}"))
        elif (place := _place(network)) in seen:
            problems.append(Problem(path, f"{text} is the same as {field}[{seen[place]}]", "each address once"))
        else:
            seen[place] = index
    return problems


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _place(network: _Network) -> tuple[Family, bytes]:
    return (Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST), key_of(network)


def _network(text: str) -> _Network | str:
    """The network, or what is wrong with the text."""
    if "%" in text:
        return f'"{text}" has an interface scope'
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f'"{text}" is no IPv4 or IPv6 address'
    return f"{text} has host bits set"


def _right_address(text: str) -> str:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        return 'such as "10.64.1.5" or "2001:db8::5"'
    return f'"{interface.ip}" for the address or "{interface.network}" for the prefix'


def _unusable(family: Family, key: bytes) -> str:
    """Why no workload has this address or prefix; "" if it may."""
    if not key[0]:
        return "is the default route"
    found = martians(family, [key]) if key[1] in _LOOK_CLOSER[family] else []
    if found:
        return f"is in {found[0][1].prefix} ({found[0][1].purpose})"
    if family is Family.IPV6_UNICAST and covers(_COMPATIBLE, key):
        return "is in ::/96 (IPv4-compatible)"
    if key[0] < _SHORTEST[family]:
        return f"is shorter than /{_SHORTEST[family]}"
    return ""


def _check_mac(mac: str) -> list[Problem]:
    if not mac:
        return []
    right = 'six bytes, such as "02:00:00:00:00:01"'
    if not _MAC.match(mac):
        return [Problem("mac", f'"{mac}" is no MAC address', right)]
    if int(mac[:2], 16) & 1:
        return [Problem("mac", f"{mac} is a multicast address", right)]
    if not int(mac.replace(":", "").replace("-", ""), 16):
        return [Problem("mac", f"{mac} is all zero", right)]
    return []


def _check_check(field: str, check: HealthCheck | None) -> list[Problem]:
    if check is None:
        return []
    if field == "probe" and check.type is CheckType.PUSH:
        return [Problem("probe.type", "push is no way to ask an address", "tcp, http, https, dns or exec")]
    if check.type in (CheckType.TCP, CheckType.HTTP, CheckType.HTTPS) and not check.port:
        return [Problem(f"{field}.port", f"a {check.type} {field} needs a port", "1 to 65535")]
    if check.type is CheckType.DNS and not is_name(check.query):
        wrong = f'"{check.query}" is no name' if check.query else "is missing"
        return [Problem(f"{field}.query", wrong, 'the name to ask for, such as "www.example.org"; "." is the root')]
    if check.type is CheckType.HTTPS and check.host and (check.host[0] == "." or not is_name(check.host)):
        right = "labels of 1 to 63 characters, such as www.example.org; or leave it out"
        return [Problem(f"{field}.host", f'"{check.host}" is no name that TLS can ask for', right)]
    if check.timeout_s > check.interval_s:
        return [
            Problem(f"{field}.timeout_s", "is longer than interval_s", f"a {field} ends before the next one starts")
        ]
    return []


def _check_command(field: str, check: HealthCheck | None, commands: Collection[str] | None) -> list[Problem]:
    if check is None or check.type is not CheckType.EXEC or (commands is not None and check.command in commands):
        return []
    allowed = ", ".join(sorted(commands)) if commands else "none; set workload.health.command_directory"
    return [Problem(f"{field}.command", f'"{check.command}" is not in the command directory', f"allowed: {allowed}")]


def _check_backends(backends: Sequence[Backend]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, backend in enumerate(backends):
        if len(problems) > MAX_PROBLEMS:
            break
        problems += _check_addresses(f"backends[{index}].addresses", backend.addresses, hosts_only=True)
        if backend.id in seen:
            wrong = f'"{backend.id}" is the same as backends[{seen[backend.id]}].id'
            problems.append(Problem(f"backends[{index}].id", wrong, "each backend once"))
        seen.setdefault(backend.id, index)
    return problems


_LOOK_CLOSER: dict[Family, frozenset[int]] = {
    Family.IPV4_UNICAST: frozenset((0, 127, 169, *range(224, 256))),
    Family.IPV6_UNICAST: frozenset((0, 0xFE, 0xFF)),
}
"""First bytes of addresses that may be no workload's; all others are."""

_COMPATIBLE = key_of(ipaddress.ip_network("::/96"))
"""IPv4 addresses in IPv6 form, which no network routes (RFC 4291 section 2.5.5.1)."""

MAX_NAME = 253
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,252}\Z")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}\Z")
