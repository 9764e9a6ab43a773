"""Whether a well-formed configuration makes sense: values against each other and against what the protocols allow.

It looks at the system only for password files and the socket's group, and never changes anything. Each check yields
findings; `check_config` gives all errors but those of `check_files`, `warn_about` what is allowed but likely not meant.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from bgpd.config.check_api import check_api, check_api_files, warn_about_api
from bgpd.config.check_guests import check_guests, warn_about_guests
from bgpd.config.check_sessions import (
    check_listens,
    check_neighbors,
    check_policies,
    policies_in_use,
    sessions_of,
    warn_about_imports,
    warn_about_limits,
)
from bgpd.config.check_vrfs import check_vrfs, warn_about_vrfs
from bgpd.config.prefix_sets import inside
from bgpd.config.schema import DEFAULT_BFD_SOCKET, Config, FibConfig, LogConfig, RouterConfig
from bgpd.config.schema_policies import AggregateConfig
from bgpd.config.schema_workloads import AddressesWorkloadConfig, MqttWorkloadConfig, WorkloadConfig
from bgpd.config.service_user import name_of, unreadable
from bgpd.config.shape import Finding
from bgpd.config.toml_lines import KeyPath
from bgpd.config.words import (
    bad_address,
    bad_as_number,
    bad_as_range,
    bad_file,
    bad_interface,
    bad_prefix,
    exposed_secret,
    one_of,
)
from bgpd.model.iana import Family
from bgpd.model.policy_syntax import parse_address_range

SOCKET_PATH_BYTES = 107
"""sun_path of sockaddr_un is 108 bytes with the closing zero (unix(7))."""

PROTOCOLS_OF_OTHERS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra",
    12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel",
    84: "ovn", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
"""linux/rtnetlink.h, RTPROT_*: bearers of these belong to other programs."""

LOCAL_TABLE = 255
_LEAST_SOURCE_BITS = 2
_MQTT_FILES = ("password_file", "ca_file", "cert_file", "key_file")
_NOT_IN_A_TOPIC = frozenset("/+#")
"""Separator and wildcards of topics (MQTT 5 section 4.7)."""


def check_config(config: Config) -> Iterator[Finding]:
    """All errors of a configuration whose form is right."""
    yield from _check_router(config.router)
    yield from check_neighbors(config)
    yield from check_listens(config)
    yield from check_guests(config)
    yield from check_policies(config)
    yield from check_vrfs(config)
    yield from _check_aggregates(config.aggregate)
    yield from _check_workloads(config.workload)
    if config.workload.mqtt is not None:
        yield from _check_mqtt(config.workload.mqtt, config.router)
    yield from _check_fib(config.fib)
    yield from _check_socket(("api", "socket"), config.api.socket, "/run/bgpd/bgpd.sock")
    yield from check_api(config.api)
    yield from _check_log(config.log)
    yield from _check_exports(config)
    yield from _check_socket(("bfd", "socket"), config.bfd.socket, DEFAULT_BFD_SOCKET)
    if os.path.normpath(config.bfd.socket) == os.path.normpath(config.api.socket):
        what = f'"{config.bfd.socket}" is api.socket, where bgpd itself answers'
        yield Finding(("bfd", "socket"), what, f'set it to the one of bgpd-bfd, such as "{DEFAULT_BFD_SOCKET}"')
    if not config.state.directory.startswith("/"):
        what = f'"{config.state.directory}" is not an absolute path'
        yield Finding(("state", "directory"), what, 'such as "/var/lib/bgpd"')


def _check_exports(config: Config) -> Iterator[Finding]:
    places: dict[tuple[str, int], int] = {}
    for index, station in enumerate(config.bmp):
        wrong = _needs_interface(station.address) or bad_address(station.address)
        if wrong:
            yield Finding(("bmp", index, "address"), *wrong)
        elif (first := places.setdefault((str(ipaddress.ip_address(station.address)), station.port), index)) != index:
            what = f"{station.address} port {station.port} is already bmp[{first}]"
            yield Finding(("bmp", index), what, "remove one")
    if config.mrt.directory and not config.mrt.directory.startswith("/"):
        what = f'"{config.mrt.directory}" is no absolute path'
        yield Finding(("mrt", "directory"), what, 'such as "/var/lib/bgpd/mrt"')


def _needs_interface(text: str) -> tuple[str, str] | None:
    """A link-local address, with a scope or without, where no interface can be said."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(text).is_link_local:
            return f'"{text}" is link-local, and nothing says on which interface', "write an address that is routed"
    return None


def check_files(config: Config) -> Iterator[Finding]:
    """Files that cannot be used now, and that the daemon can go on without: it tries them again and again."""
    mqtt = config.workload.mqtt
    for field in _MQTT_FILES if mqtt is not None else ():
        file = getattr(mqtt, field)
        if file and (wrong := bad_file(file)):
            yield Finding(("workload", "mqtt", field), *wrong)
    yield from check_api_files(config.api)


def warn_about(config: Config) -> Iterator[Finding]:
    """What is allowed, but has no effect yet or is likely not meant."""
    yield from warn_about_vrfs(config)
    yield from warn_about_imports(config)
    yield from warn_about_limits(config)
    yield from warn_about_guests(config)
    yield from _warn_about_mqtt(config.workload.mqtt)
    yield from _warn_about_secrets(config)
    if not config.neighbor and not config.listen:
        yield Finding((), "there is no [[neighbor]] and no [[listen]]", "bgpd will talk to nobody")
    for name in config.policy.keys() - policies_in_use(config):
        yield Finding(("policy", name), "is used by no neighbor", "name it in an import or export")
    yield from warn_about_api(config.api)
    if config.api.group:
        try:
            grp.getgrnam(config.api.group)
        except KeyError:
            what = f'group "{config.api.group}" does not exist on this machine'
            yield Finding(("api", "group"), what, "the socket would keep the daemon's group")


def _check_router(router: RouterConfig) -> Iterator[Finding]:
    if wrong := bad_as_number(router.asn):
        yield Finding(("router", "asn"), *wrong)
    if wrong := bad_as_range(router.asn_range):
        yield Finding(("router", "asn_range"), *wrong)
    for index, prefix in enumerate(router.loopbacks):
        if wrong := bad_prefix(prefix):
            yield Finding(("router", "loopbacks", index), *wrong)
    right = 'write an IPv4 address that only this host has, such as "10.255.1.1"'
    try:
        router_id = ipaddress.IPv4Address(router.router_id)
    except ValueError:
        yield Finding(("router", "router_id"), f'"{router.router_id}" is not an IPv4 address', right)
        return
    if router_id.is_unspecified or router_id.is_multicast or int(router_id) == 0xFFFFFFFF:
        yield Finding(("router", "router_id"), f'"{router.router_id}" is no host\'s address', right)


def _check_aggregates(aggregates: tuple[AggregateConfig, ...]) -> Iterator[Finding]:
    seen: dict[tuple[str, str, str], int] = {}
    for index, aggregate in enumerate(aggregates):
        path: KeyPath = ("aggregate", index, "prefix")
        if wrong := bad_prefix(aggregate.prefix, workload=True):
            yield Finding(path, *wrong)
            continue
        network = ipaddress.ip_network(aggregate.prefix)
        if network.prefixlen == network.max_prefixlen:
            yield Finding(path, f'"{aggregate.prefix}" is one address', "an aggregate is shorter than what is in it")
        first = seen.setdefault((str(network), aggregate.vrf, aggregate.auto), index)
        if first != index:
            yield Finding(path, f'"{aggregate.prefix}" is already in aggregate[{first}]', "remove one")


def _check_workloads(workload: WorkloadConfig) -> Iterator[Finding]:
    prefixes: dict[tuple[str, str], int] = {}
    ids: dict[str, int] = {}
    for index, static in enumerate(workload.static):
        path: KeyPath = ("workload", "static", index)
        if wrong := bad_prefix(static.prefix, workload=True):
            yield Finding((*path, "prefix"), *wrong)
        elif (first := prefixes.setdefault((static.vrf, _written(static.prefix)), index)) != index:
            yield Finding((*path, "prefix"), f'"{static.prefix}" is already in workload.static[{first}]', "remove one")
        if wrong := bad_interface(static.interface):
            yield Finding((*path, "interface"), *wrong)
        if static.id and ids.setdefault(static.id, index) != index:
            what = f'"{static.id}" is already the id of workload.static[{ids[static.id]}]'
            yield Finding((*path, "id"), what, "ids are unique")
    directory = workload.health.command_directory
    if directory and not directory.startswith("/"):
        what = f'"{directory}" is not an absolute path'
        yield Finding(("workload", "health", "command_directory"), what, 'such as "/etc/bgpd/checks"')
    if workload.addresses is not None:
        yield from _check_addresses(workload.addresses)
    yield from _check_probe_sources(workload.health.probe_sources)
    if workload.kernel is not None:
        path = ("workload", "kernel", "interfaces")
        if not workload.kernel.interfaces:
            yield Finding(path, "names no interface", 'such as interfaces = ["cali*", "tap*"]')
        for index, glob in enumerate(workload.kernel.interfaces):
            if wrong := bad_interface(glob):
                yield Finding((*path, index), *wrong)


def _written(prefix: str) -> str:
    """A prefix in the one way to write it: an address has a length, and IPv6 is short and in small letters."""
    return str(ipaddress.ip_network(prefix))


def _check_addresses(addresses: AddressesWorkloadConfig) -> Iterator[Finding]:
    path: KeyPath = ("workload", "addresses")
    if not addresses.interfaces:
        yield Finding((*path, "interfaces"), "names no interface", 'such as interfaces = ["lo", "dummy*"]')
    for index, glob in enumerate(addresses.interfaces):
        if wrong := bad_interface(glob):
            yield Finding((*path, "interfaces", index), *wrong)
    for index, text in enumerate(addresses.prefixes):
        if wrong := bad_prefix(text.partition(" ")[0]):
            yield Finding((*path, "prefixes", index), *wrong)
            continue
        try:
            permitted = parse_address_range(text)
        except ValueError as error:
            yield Finding((*path, "prefixes", index), str(error), 'such as "10.255.0.0/16" or "2001:db8:255::/48"')
            continue
        is_used = addresses.ipv4 if permitted.family is Family.IPV4_UNICAST else addresses.ipv6
        if not is_used:
            key = "ipv4" if permitted.family is Family.IPV4_UNICAST else "ipv6"
            what = f'"{text}" permits nothing, since workload.addresses.{key} is false'
            yield Finding((*path, "prefixes", index), what, f"remove it, or set {key} = true")
    if not (addresses.ipv4 or addresses.ipv6):
        yield Finding(
            (*path, "ipv6"), "is false, and ipv4 is, too: nothing would be announced", "leave one of them out"
        )


def _check_probe_sources(sources: tuple[str, ...]) -> Iterator[Finding]:
    path: KeyPath = ("workload", "health", "probe_sources")
    right = 'one prefix of each family, such as "169.254.62.0/24" and "fd62:6770:6470::/64"'
    if len(sources) != 2:
        yield Finding(path, f"has {len(sources)} prefixes", right)
    versions = set()
    for index, text in enumerate(sources):
        if wrong := bad_prefix(text):
            yield Finding((*path, index), *wrong)
            continue
        network = ipaddress.ip_network(text)
        if network.version in versions:
            yield Finding((*path, index), f'"{text}" is the second prefix of its family', right)
        elif network.max_prefixlen - network.prefixlen < _LEAST_SOURCE_BITS:
            yield Finding(
                (*path, index), f'"{text}" is too small', "each VRF needs an address of it: at most /30, /126"
            )
        elif network.is_multicast or network.is_loopback or (network.version == 6 and network.is_link_local):
            yield Finding((*path, index), f'"{text}" is no source that a backend could answer to', right)
        versions.add(network.version)


def _check_mqtt(mqtt: MqttWorkloadConfig, router: RouterConfig) -> Iterator[Finding]:
    if wrong := _bad_broker(mqtt.broker):
        yield Finding(("workload", "mqtt", "broker"), *wrong)
    if not mqtt.host and not _NOT_IN_A_TOPIC.isdisjoint(router.hostname):
        what = f'"{router.hostname}" would be this host in topics of MQTT, which cannot have "/", "+" or "#" there'
        yield Finding(("router", "hostname"), what, "choose another one, or set workload.mqtt.host")


def _bad_broker(text: str) -> tuple[str, str] | None:
    right = 'such as "mqtt://127.0.0.1:1883"'
    try:
        url = urlsplit(text)
    except ValueError:  # not repeated: a password may be in it
        return "has brackets around what is no IPv6 address", 'such as "mqtt://[2001:db8::1]:1883"'
    if "@" in url.netloc:  # not repeated: a password may be in it
        return "names a user or a password", "set workload.mqtt.username and password_file"
    try:
        port = url.port
    except ValueError:
        port = 0
    if port == 0:
        return f'"{text}" has no port of TCP', right
    if not url.hostname or any(map(str.isspace, url.hostname)):
        return f'"{text}" names no host', right
    if "%" not in url.hostname and (wrong := _needs_interface(url.hostname)):
        return wrong
    if url.path.strip("/") or url.query or url.fragment:  # not repeated: a password may be in it
        return "has more than a host and a port", "what stands behind them would be ignored"
    return None


def _warn_about_mqtt(mqtt: MqttWorkloadConfig | None) -> Iterator[Finding]:
    """A password that others on the way can read, with which they can announce workloads of their choosing."""
    url = urlsplit(mqtt.broker if mqtt is not None else "")
    if mqtt is not None and mqtt.password_file and url.scheme == "mqtt" and not _is_this_host(url.hostname or ""):
        what = f'"{mqtt.broker}" is another host, and the password goes there in clear text'
        yield Finding(("workload", "mqtt", "broker"), what, "use mqtts:// with ca_file")


def files_of(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """The files that a configuration names, each with its key."""
    files: list[tuple[KeyPath, str]] = []
    for path, session in sessions_of(config):
        files.append(((*path, "password_file"), session.password_file))
        files += [((*path, "tcp_ao", index, "key_file"), key.key_file) for index, key in enumerate(session.tcp_ao)]
    if (mqtt := config.workload.mqtt) is not None:
        files += [(("workload", "mqtt", field), getattr(mqtt, field)) for field in _MQTT_FILES]
    files += [(("api", field), getattr(config.api, field)) for field in ("token_file", "tls_certificate", "tls_key")]
    return ((path, file) for path, file in files if file)


def _warn_about_secrets(config: Config) -> Iterator[Finding]:
    mqtt = config.workload.mqtt
    public = {"ca_file", "cert_file" if mqtt is not None and mqtt.key_file else "", "tls_certificate"}
    for path, file in files_of(config):
        if path[-1] not in public and (wrong := exposed_secret(file)):
            yield Finding(path, *wrong)


def unreadable_files(config: Config, uid: int) -> Iterator[Finding]:
    """The files of a configuration that the user of the service cannot read, although this process can."""
    files = list(files_of(config))
    reasons = unreadable((file for _, file in files), uid)
    for path, file in files:
        if file in reasons:
            what = f'"{file}" cannot be read by user {name_of(uid)}, as whom the daemon runs: {reasons[file]}'
            yield Finding(
                path, what, f"chown root:{name_of(uid)} {file}, chmod 640; bgpd check --user for another user"
            )


def _is_this_host(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _check_fib(fib: FibConfig) -> Iterator[Finding]:
    owner = PROTOCOLS_OF_OTHERS.get(fib.protocol)
    if owner is not None:
        what = f'is {fib.protocol}, which is "{owner}"'
        yield Finding(("fib", "protocol"), what, "choose a number that only bgpd uses, such as 217")
    if fib.table == LOCAL_TABLE:
        yield Finding(("fib", "table"), "is 255, the kernel's table of local addresses", "254 is the main table")
    yield from _check_preferred_source(fib.preferred_source)
    for field in ("protect", "override"):
        for index, prefix in enumerate(getattr(fib, field)):
            if wrong := bad_prefix(prefix):
                yield Finding(("fib", field, index), *wrong)
                return
    for prefix, network in inside(fib.override, fib.protect).items():
        what = f'"{prefix}" is inside "{network}", which fib.protect keeps from learned routes'
        right = "protection counts more: shorten the one list or the other"
        yield Finding(("fib", "override", fib.override.index(prefix)), what, right)


def _check_preferred_source(wanted: str | tuple[str, ...]) -> Iterator[Finding]:
    path: KeyPath = ("fib", "preferred_source")
    right = 'write "loopback", an address of this host, or a list with one of each family'
    if wanted in ("", "loopback"):
        return
    versions: list[int] = []
    for index, text in enumerate((wanted,) if isinstance(wanted, str) else wanted):
        where = path if isinstance(wanted, str) else (*path, index)
        wrong = ('"loopback" stands in a list', right) if text == "loopback" else bad_address(text)
        if wrong:
            yield Finding(where, wrong[0], right)
            return
        address = ipaddress.ip_address(text)
        if address.is_link_local or address.is_loopback:
            what = f'"{text}" is {"link-local" if address.is_link_local else "known to this host only"}'
            yield Finding(where, what, "others answer to the source: write an address that they can reach")
        elif address.version in versions:
            yield Finding(where, f'"{text}" is the second IPv{address.version} address', right)
        versions.append(address.version)


def _check_socket(path: KeyPath, socket: str, example: str) -> Iterator[Finding]:
    if not socket.startswith("/") or socket.endswith("/"):
        yield Finding(path, f'"{socket}" is not an absolute file path', f'such as "{example}"')
    elif len(socket.encode()) > SOCKET_PATH_BYTES:
        what = f"has {len(socket.encode())} bytes"
        yield Finding(path, what, f"a unix socket's path has at most {SOCKET_PATH_BYTES}")


def _check_log(log: LogConfig) -> Iterator[Finding]:
    if wrong := one_of(log.format, ("json", "console")):
        yield Finding(("log", "format"), *wrong)
    if wrong := one_of(log.level, ("debug", "info", "warning", "error")):
        yield Finding(("log", "level"), *wrong)
