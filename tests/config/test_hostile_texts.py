"""Any text in any place of a whole configuration is taken or refused: a reload with a defect of ours in it would end
the daemon."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from bgpd.config.load import ConfigError, parse_config
from bgpd.migrate.toml_writer import write_value

WHOLE = """
[router]
asn = 65203
router_id = "10.255.1.1"
hostname = "node1"
loopbacks = ["10.255.0.0/16"]
asn_range = "4200000000-4294967294"
[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
source_address = "10.0.1.1"
expect_hostname = "leaf1"
asn = 65201
role = "customer"
import = "rules"
families = ["ipv4-unicast", "l2vpn-evpn"]
interface = "eth0"
password_file = "/none"
[[neighbor]]
name = "leaves"
interface = "eth*"
asn = "external"
import = "default-only"
tcp_ao = [{ key_file = "/none", send_id = 1, receive_id = 1, algorithm = "hmac-sha1-96" }]
[[listen]]
prefix = "10.64.0.0/24"
asn = "external"
import = "rules"
[[policy.rules.rules]]
action = "accept"
[policy.rules.rules.match]
prefix = ["10.64.8.0/22 le 32"]
as_path = ["^65300"]
community = ["1:1"]
extended_community = ["rt:1:1"]
large_community = ["1:1:1"]
next_hop = ["10.0.0.0/8"]
family = ["ipv4-unicast"]
neighbor = ["leaf1"]
[policy.rules.rules.set]
add_community = ["1:1"]
remove_community = ["1:1"]
add_large_community = ["1:1:1"]
remove_large_community = ["1:1:1"]
add_extended_community = ["rt:1:1"]
remove_extended_community = ["rt:1:1"]
[[vrf]]
name = "blue"
table = 1001
rd = "1:1"
import_rt = ["1:1"]
export_rt = ["1:1"]
uplinks = ["eth0.101"]
originate = "all"
resolve = "peer"
uplink_neighbors = { "eth0.101" = "leaf1" }
uplink_gateways = { "eth0.101" = ["10.1.0.1"] }
[[aggregate]]
prefix = "10.64.1.0/26"
auto = "exact"
vrf = "blue"
[workload.kernel]
interfaces = ["cali*"]
[workload.addresses]
interfaces = ["lo"]
prefixes = ["10.255.0.0/16"]
[[workload.static]]
prefix = "10.64.1.5/32"
interface = "veth5"
id = "db1"
vrf = "blue"
[[workload.bgp]]
name = "metallb"
address = "127.0.0.2"
asn = "external"
prefixes = ["10.9.0.0/24 le 32"]
max_prefixes = 100
interface = "veth6"
source_address = "127.0.0.1"
[workload.mqtt]
broker = "mqtts://broker.example:8883"
host = "node1"
username = "node1"
password_file = "/none"
ca_file = "/none"
cert_file = "/none"
key_file = "/none"
[workload.health]
command_directory = "/none"
probe_sources = ["169.254.62.0/24", "fd62:6770:6470::/64"]
[fib]
protect = ["10.0.0.0/8"]
override = ["11.0.0.0/8"]
preferred_source = ["10.255.1.1"]
[state]
directory = "/none"
[[bmp]]
address = "10.0.9.9"
[mrt]
directory = "/none"
[api]
socket = "/run/bgpd.sock"
mode = "0660"
group = "none"
listen = "127.0.0.1:9179"
token_file = "/none"
tls_certificate = "/none"
tls_key = "/none"
allowed_hosts = ["node1"]
[log]
format = "json"
[bfd]
socket = "/run/bfd.sock"
"""

Place = tuple[str | int, ...]


def texts(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where texts stand."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*place, index))
    elif isinstance(value, str):
        yield place


@pytest.mark.parametrize("hostile", ["a\0b", "mqtt://[::1", "fe80::1%1", "2001:db8::%eth0/64", "²:²:²"])
def test_any_text_in_any_place_is_taken_or_refused(hostile: str) -> None:
    whole = tomllib.loads(WHOLE)
    for *way, last in texts(whole):
        data: Any = copy.deepcopy(whole)
        inner = data
        for key in way:
            inner = inner[key]
        inner[last] = hostile
        text = "\n".join(f"{key} = {write_value(value)}" for key, value in data.items())
        with pytest.raises(ConfigError):  # the files that it names are not there
            parse_config(text, "x.toml")
