"""Configuration: every bad input gets a finding with its line and what would be right, all at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config import check_sessions
from bgpd.config.load import ConfigError, Problem, load_config, parse_config
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig, attribute_limit
from bgpd.config.toml_lines import key_lines, line_of

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
NEIGHBOR = '[[neighbor]]\nname = "leaf1"\naddress = "10.0.1.2"\nasn = 65201\nimport = "all"\n'
LIMIT = "max_prefixes = 1000\n"
ADDRESSES = "[workload.addresses]\n{}\n"
LO = 'interfaces = ["lo"]\n'


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x.toml")
    return caught.value.problems


def the_problem(text: str) -> Problem:
    (problem,) = problems_of(text)
    return problem


def test_small_configuration_gets_the_documented_defaults() -> None:
    config, warnings = parse_config(ROUTER + NEIGHBOR + LIMIT, "x.toml")
    assert config.neighbor[0].hold_time_s == 9
    assert config.neighbor[0].import_ == "all"
    assert config.neighbor[0].export == "local"
    assert config.fib.protocol == 217
    assert warnings == []


BAD = [
    ("[router\n", 1, "", "not valid TOML"),
    (ROUTER + "[router]\n", 4, "", "not valid TOML"),
    (ROUTER + '[api]\nmode = "0660\\n"\n', 5, "api.mode", "has the character"),
    (NEIGHBOR, 1, "router", "is missing"),
    ("[router]\nasn = 65203\n", 1, "router.router_id", "is missing"),
    (ROUTER + 'hostnme = "x"\n' + NEIGHBOR, 4, "router.hostnme", "unknown key"),
    (ROUTER + "[fibb]\n", 4, "fibb", "unknown key"),
    (ROUTER.replace("65203", '"65203"'), 2, "router.asn", 'is the text "65203"'),
    (ROUTER.replace("65203", "0"), 2, "router.asn", "is 0"),
    (ROUTER.replace("65203", "4294967295"), 2, "router.asn", "is 4294967295"),
    (ROUTER.replace("65203", "23456"), 2, "router.asn", "reserved"),
    (ROUTER.replace("10.255.1.1", "node1"), 3, "router.router_id", "not an IPv4 address"),
    (ROUTER.replace("10.255.1.1", "224.0.0.5"), 3, "router.router_id", "no host's address"),
    (ROUTER.replace("10.255.1.1", "255.255.255.255"), 3, "router.router_id", "no host's address"),
    (ROUTER.replace("10.255.1.1", "0.0.0.0"), 3, "router.router_id", "no host's address"),
    (ROUTER + NEIGHBOR.replace("[[neighbor]]", "[neighbor]"), 4, "neighbor", "is a table"),
    (ROUTER + NEIGHBOR.replace("65201", "true"), 7, "neighbor[0].asn", "is true"),
    (ROUTER + NEIGHBOR.replace("65201", '"outside"'), 7, "neighbor[0].asn", "unknown"),
    (ROUTER + NEIGHBOR.replace("10.0.1.2", "10.0.1.2/24"), 6, "neighbor[0].address", "is a prefix"),
    (ROUTER + NEIGHBOR.replace("10.0.1.2", "224.0.0.5"), 6, "neighbor[0].address", "no host's address"),
    (ROUTER + NEIGHBOR.replace("10.0.1.2", "fe80::1"), 6, "neighbor[0].address", "has no interface"),
    (ROUTER + NEIGHBOR.replace("10.0.1.2", "fe80::1%eth0"), 6, "neighbor[0].address", "has a scope"),
    (ROUTER + NEIGHBOR.replace('address = "10.0.1.2"\n', ""), 4, "neighbor[0].address", "no interface either"),
    (ROUTER + NEIGHBOR.replace("leaf1", ""), 5, "neighbor[0].name", "cannot be a name"),
    (ROUTER + NEIGHBOR.replace('import = "all"\n', ""), 4, "neighbor[0].import", "is missing"),
    (ROUTER + NEIGHBOR.replace('"all"', '"al"'), 8, "neighbor[0].import", "no policy"),
    (ROUTER + NEIGHBOR.replace('"all"', '"local"'), 8, "neighbor[0].import", "no policy"),
    (ROUTER + NEIGHBOR + 'max_prefixes_action = "drop"\n', 9, "neighbor[0].max_prefixes_action", "unknown"),
    (ROUTER + NEIGHBOR + "max_prefixes_warn_percent = 101\n", 9, "neighbor[0].max_prefixes_warn_percent", "is 101"),
    (ROUTER + NEIGHBOR + "bfd = true\n", 9, "neighbor[0].bfd", "is true"),
    (ROUTER + "[drain]\nsettle_s = -1\n", 5, "drain.settle_s", "is -1"),
    (ROUTER + NEIGHBOR + "hold_time_s = 2\n", 9, "neighbor[0].hold_time_s", "is 2"),
    (ROUTER + NEIGHBOR + "hold_time_s = 65536\n", 9, "neighbor[0].hold_time_s", "is 65536"),
    (ROUTER + NEIGHBOR + "port = 0\n", 9, "neighbor[0].port", "is 0"),
    (ROUTER + NEIGHBOR + "families = []\n", 9, "neighbor[0].families", "empty list"),
    (ROUTER + NEIGHBOR + 'families = [\n "ipv4-unicast",\n "ipv5"]\n', 11, "neighbor[0].families[1]", "unknown"),
    (ROUTER + NEIGHBOR + 'families = ["ipv4-unicast", "ipv4-unicast"]\n', 9, "neighbor[0].families[1]", "twice"),
    (ROUTER + NEIGHBOR + 'interface = "a-very-long-name"\n', 9, "neighbor[0].interface", "16 bytes"),
    (ROUTER + NEIGHBOR + 'interface = "e/0"\n', 9, "neighbor[0].interface", "cannot be an interface"),
    (ROUTER + NEIGHBOR + 'source_address = "::1"\n', 9, "neighbor[0].source_address", "same IP version"),
    (ROUTER + NEIGHBOR + 'password_file = "/nonexistent/key"\n', 9, "neighbor[0].password_file", "cannot be read"),
    (ROUTER + NEIGHBOR + 'bfd = "fast"\n', 9, "neighbor[0].bfd", "is the text"),
    (ROUTER + NEIGHBOR + "bfd = { interval = 300 }\n", 9, "neighbor[0].bfd.interval", "unknown key"),
    (ROUTER + NEIGHBOR + NEIGHBOR.replace("10.0.1.2", "10.0.2.2"), 10, "neighbor[1].name", "already the name"),
    (ROUTER + NEIGHBOR + NEIGHBOR.replace("leaf1", "leaf2"), 11, "neighbor[1].address", "already neighbor[0]"),
    (ROUTER + "[policy.all]\n", 4, "policy.all", "built-in"),
    (ROUTER + '[log]\nlevel = "loud"\n', 5, "log.level", "unknown"),
    (ROUTER + '[log]\nformat = "text"\n', 5, "log.format", "unknown"),
    (ROUTER + "[fib]\nprotocol = 186\n", 5, "fib.protocol", '"bgp"'),
    (ROUTER + "[fib]\nprotocol = 256\n", 5, "fib.protocol", "is 256"),
    (ROUTER + "[fib]\ntable = 255\n", 5, "fib.table", "local addresses"),
    (ROUTER + '[fib]\nprotect = ["10.0.0.1/8"]\n', 5, "fib.protect[0]", "host bits"),
    (ROUTER + '[api]\nsocket = "bgpd.sock"\n', 5, "api.socket", "absolute"),
    (ROUTER + f'[api]\nsocket = "/{"x" * 107}"\n', 5, "api.socket", "108 bytes"),
    (ROUTER + '[bfd]\nsocket = "/run/bgpd//bgpd.sock"\n', 5, "bfd.socket", "where bgpd itself answers"),
    (ROUTER + '[api]\nmode = "rw"\n', 5, "api.mode", 'is "rw"'),
    (ROUTER + '[api]\nlisten = "9179"\n', 5, "api.listen", "not an address and a port"),
    (ROUTER + '[api]\nlisten = "::1:9179"\n', 5, "api.listen", "brackets"),
    (ROUTER + '[fib]\npreferred_source = "lo"\n', 5, "fib.preferred_source", "not an IP address"),
    (ROUTER + '[fib]\npreferred_source = "10.0.0.1/32"\n', 5, "fib.preferred_source", "is a prefix"),
    (ROUTER + '[fib]\npreferred_source = "fe80::1"\n', 5, "fib.preferred_source", "link-local"),
    (ROUTER + '[fib]\npreferred_source = "127.0.0.1"\n', 5, "fib.preferred_source", "this host only"),
    (ROUTER + '[fib]\npreferred_source = ["loopback"]\n', 5, "fib.preferred_source[0]", "in a list"),
    (ROUTER + '[fib]\npreferred_source = ["10.0.0.1", "10.0.0.2"]\n', 5, "fib.preferred_source[1]", "second IPv4"),
    (ROUTER + "[fib]\npreferred_source = 7\n", 5, "fib.preferred_source", "the number 7"),
    (ROUTER + '[fib]\noverride = ["x"]\n', 5, "fib.override[0]", "not a prefix"),
    (ROUTER + '[state]\ndirectory = "state"\n', 5, "state.directory", "absolute"),
    (ROUTER + '[workload.mqtt]\nbroker = "http://x"\n', 5, "workload.mqtt.broker", 'is "http://x"'),
    (ROUTER + '[workload.mqtt]\nbroker = "mqtt://"\n', 5, "workload.mqtt.broker", "names no host"),
    (ROUTER + '[workload.mqtt]\nbroker = "mqtt://b"\nca_file = "/no"\n', 6, "workload.mqtt.ca_file", "cannot be read"),
    (ROUTER + "[workload.kernel]\n", 4, "workload.kernel.interfaces", "names no interface"),
    (ROUTER + "[workload.addresses]\n", 4, "workload.addresses.interfaces", "names no interface"),
    (
        ROUTER + ADDRESSES.format('interfaces = ["a b"]'),
        5,
        "workload.addresses.interfaces[0]",
        "cannot be an interface",
    ),
    (ROUTER + ADDRESSES.format(LO + 'prefixes = ["10.0.0.1/8"]'), 6, "workload.addresses.prefixes[0]", "host bits"),
    (ROUTER + ADDRESSES.format(LO + 'prefixes = ["10.0.0.0/8 le 24"]'), 6, "workload.addresses.prefixes[0]", "as /32"),
    (ROUTER + ADDRESSES.format(LO + 'prefixes = ["lo"]'), 6, "workload.addresses.prefixes[0]", '"lo"'),
    (
        ROUTER + ADDRESSES.format(LO + 'prefixes = ["10.0.0.0/8"]\nipv4 = false'),
        6,
        "workload.addresses.prefixes[0]",
        "permits nothing",
    ),
    (ROUTER + ADDRESSES.format(LO + "ipv4 = false\nipv6 = false"), 7, "workload.addresses.ipv6", "nothing would be"),
    (ROUTER + ADDRESSES.format(LO + "prefix = []"), 6, "workload.addresses.prefix", "unknown key"),
    (ROUTER + ADDRESSES.format('interfaces = "lo"'), 5, "workload.addresses.interfaces", "is the text"),
    (ROUTER + '[[aggregate]]\nprefix = "10.64.1.1/26"\n', 5, "aggregate[0].prefix", "host bits"),
    (ROUTER + '[[aggregate]]\nprefix = "0.0.0.0/0"\n', 5, "aggregate[0].prefix", "default"),
    (ROUTER + '[[aggregate]]\nprefix = "10.64.1.1/32"\n', 5, "aggregate[0].prefix", "one address"),
    (ROUTER + '[[aggregate]]\nprefix = "10.64.1.0/26"\n' * 2, 7, "aggregate[1].prefix", "already in aggregate[0]"),
    (ROUTER + '[[aggregate]]\nprefix = "224.0.0.0/8"\n', 5, "aggregate[0].prefix", "multicast"),
    (ROUTER + '[[aggregate]]\nprefix = "127.0.0.0/8"\n', 5, "aggregate[0].prefix", "loopback"),
    (ROUTER + '[[aggregate]]\nprefix = "10.64.1.0/26"\nsummary_only = 1\n', 6, "aggregate[0].summary_only", "number 1"),
    (ROUTER + '[[aggregate]]\nprefix = "10.64.1.0/26"\nauto = "all"\n', 6, "aggregate[0].auto", 'is "all"'),
]


@pytest.mark.parametrize(("text", "line", "path", "what"), BAD)
def test_bad_input_is_told_with_line_path_and_reason(text: str, line: int, path: str, what: str) -> None:
    problem = the_problem(text)
    assert (problem.line, problem.path) == (line, path)
    assert what in problem.what
    assert str(problem).startswith(f"x.toml:{line}: ")


BAD_LISTENS = [
    ("10.64.0.1/24", "host bits"),
    ("10.64.0.0/33", "not a prefix"),
    ("10.64.8.0/22", "overlaps"),
]


@pytest.mark.parametrize(("prefix", "what"), BAD_LISTENS)
def test_bad_listen_prefix_is_told(prefix: str, what: str) -> None:
    first = '[[listen]]\nprefix = "10.64.0.0/16"\nasn = "external"\nimport = "all"\n'
    second = f'[[listen]]\nprefix = "{prefix}"\nasn = "external"\nimport = "all"\n'
    problem = the_problem(ROUTER + first + second)
    assert (problem.line, problem.path) == (9, "listen[1].prefix")
    assert what in problem.what


@pytest.mark.parametrize("hold_time_s", [0, 5])
def test_listen_with_a_hold_time_that_it_refuses_itself_is_told(hold_time_s: int) -> None:
    listen = '[[listen]]\nprefix = "10.64.0.0/16"\nasn = "external"\nimport = "all"\n'
    problem = the_problem(ROUTER + listen + f"min_hold_time_s = 6\nhold_time_s = {hold_time_s}\n")
    assert (problem.line, problem.path) == (9, "listen[0].hold_time_s")
    assert "less than min_hold_time_s = 6" in problem.what


LISTEN = '[[listen]]\nprefix = "10.64.0.0/16"\nasn = "external"\nimport = "all"\n'


def test_graceful_restart_is_on_unless_it_is_turned_off() -> None:
    """For both roles only where this host dials: some neighbors wait for the restarted side to do so."""
    config, _ = parse_config(ROUTER + NEIGHBOR + LISTEN, "x.toml")
    assert [one.graceful_restart.mode for one in (*config.neighbor, *config.listen)] == ["both", "helper"]
    config, _ = parse_config(ROUTER + NEIGHBOR + 'graceful_restart = { mode = "off" }\n', "x.toml")
    assert not config.neighbor[0].graceful_restart.helps


BAD_LISTEN_SESSIONS = [
    ("asn", LISTEN.replace('"external"', "0"), 6, "is 0"),
    ("asn", LISTEN.replace('"external"', "23456"), 6, "reserved"),
    ("asn", LISTEN.replace('"external"', '"outside"'), 6, "unknown"),
    ("local_asn", LISTEN + "local_asn = 4294967295\n", 8, "is 4294967295"),
    ("import", LISTEN.replace('"all"', '"al"'), 7, "no policy"),
    ("export", LISTEN + 'export = "everything"\n', 8, "no policy"),
    ("hold_time_s", LISTEN + "hold_time_s = 2\n", 8, "is 2"),
    ("families[0]", LISTEN + 'families = ["ipv5"]\n', 8, "unknown"),
    ("password_file", LISTEN + 'password_file = "/nonexistent/key"\n', 8, "cannot be read"),
]


@pytest.mark.parametrize(("path", "text", "line", "what"), BAD_LISTEN_SESSIONS)
def test_bad_session_of_a_listen_is_told_as_that_of_a_neighbor(path: str, text: str, line: int, what: str) -> None:
    problem, *others = problems_of(ROUTER + text)
    assert (problem.line, problem.path) == (line, f"listen[0].{path}")
    assert what in problem.what
    assert [other.path for other in others] in ([], ["listen[0].hold_time_s"])


def test_listen_ranges_side_by_side_and_of_both_families_are_right() -> None:
    for prefix in ("10.65.0.0/16", "10.63.0.0/16", "::/0"):
        parse_config(ROUTER + LISTEN + LISTEN.replace("10.64.0.0/16", prefix), "x.toml")
    assert "overlaps" in the_problem(ROUTER + LISTEN + LISTEN).what
    assert "overlaps" in the_problem(ROUTER + LISTEN + LISTEN.replace("10.64.0.0/16", "0.0.0.0/0")).what


@pytest.mark.parametrize("hold_time_s", [6, 7, 90])
def test_listen_with_a_hold_time_of_the_least_that_it_takes_or_more_is_right(hold_time_s: int) -> None:
    parse_config(ROUTER + LISTEN + f"min_hold_time_s = 6\nhold_time_s = {hold_time_s}\n", "x.toml")


@pytest.mark.parametrize("hold_time_s", [0, 3])
def test_hold_time_of_none_or_three_seconds_is_right(hold_time_s: int) -> None:
    parse_config(ROUTER + NEIGHBOR + f"hold_time_s = {hold_time_s}\n", "x.toml")


UNNUMBERED = '[[neighbor]]\nname = "{}"\ninterface = "{}"\nasn = "external"\nimport = "all"\n'
SCOPED = '[[neighbor]]\nname = "{}"\naddress = "{}"\ninterface = "{}"\nasn = "external"\nimport = "all"\n'


def test_two_unnumbered_neighbors_on_one_interface_are_told() -> None:
    problem = the_problem(ROUTER + UNNUMBERED.format("leaf1", "eth0") + UNNUMBERED.format("leaf2", "eth0"))
    assert (problem.line, problem.path) == (11, "neighbor[1].interface")
    assert '"eth0" is already neighbor[0]' in problem.what


def test_one_link_local_address_on_two_interfaces_is_two_neighbors_and_on_one_is_told() -> None:
    first = SCOPED.format("leaf1", "fe80::1", "eth0")
    parse_config(ROUTER + first + SCOPED.format("leaf2", "fe80::1", "eth1"), "x.toml")
    parse_config(ROUTER + first + SCOPED.format("leaf2", "fe80::2", "eth0"), "x.toml")
    parse_config(ROUTER + first + UNNUMBERED.format("leaf2", "eth0"), "x.toml")
    problem = the_problem(ROUTER + first + SCOPED.format("leaf2", "fe80:0::1", "eth0"))
    assert (problem.line, problem.path) == (12, "neighbor[1].address")


def test_one_global_address_is_one_neighbor_whatever_the_interface() -> None:
    """A port or a VRF of its own makes another one."""
    first = SCOPED.format("leaf1", "10.0.1.2", "eth0")
    second = SCOPED.format("leaf2", "10.0.1.2", "eth1")
    assert the_problem(ROUTER + first + second).path == "neighbor[1].address"
    parse_config(ROUTER + first + second + "port = 1179\n", "x.toml")
    vrf = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\n'
    parse_config(ROUTER + first + second + 'vrf = "blue"\n' + vrf, "x.toml")


BAD_RULES = [
    ('match = { prefix = ["10.64.8.0/22 le 20"] }', "match.prefix[0]", "lengths must rise"),
    ('match = { prefix = ["10.64.8.1/22"] }', "match.prefix[0]", "host bits"),
    ('match = { prefix = "10.64.8.0/22" }', "match.prefix", "is the text"),
    ('match = { as_path = ["(65201"] }', "match.as_path[0]", "regular expression"),
    ('match = { as_path = ["1", "(65001) \\\\1"] }', "match.as_path[1]", "backreference"),
    ('match = { as_path = ["(?=1)"] }', "match.as_path[0]", "lookaround"),
    ('match = { community = ["65000"] }', "match.community[0]", "not a community"),
    ('match = { extended_community = ["rt:1"] }', "match.extended_community[0]", "route target"),
    ('match = { large_community = ["1:2"] }', "match.large_community[0]", "large community"),
    ('match = { next_hop = ["leaf1"] }', "match.next_hop[0]", "not a prefix"),
    ('match = { family = ["ipv4"] }', "match.family[0]", "unknown"),
    ('match = { neighbor = ["leaf9"] }', "match.neighbor[0]", "unknown"),
    ("match = { prefixes = [] }", "match.prefixes", "unknown key"),
    ('set = { add_community = ["x"] }', "set.add_community[0]", "not a community"),
    ("set = { local_pref = -1 }", "set.local_pref", "is -1"),
    ('action = "permit"', "action", "unknown"),
]


@pytest.mark.parametrize(("rule", "path", "what"), BAD_RULES)
def test_bad_policy_rule_is_told(rule: str, path: str, what: str) -> None:
    problem = the_problem(ROUTER + f"[policy.p]\nrules = [\n  {{ {rule} }},\n]\n")
    assert (problem.line, problem.path) == (6, f"policy.p.rules[0].{path}")
    assert what in problem.what


@pytest.mark.parametrize("prefix", ["10.64.1.5/24", "224.1.1.1/32", "127.0.0.1/32", "fe80::1/128", "0.0.0.0/0", "pod"])
def test_bad_static_workload_is_told(prefix: str) -> None:
    problem = the_problem(ROUTER + f'[[workload.static]]\nprefix = "{prefix}"\ninterface = "veth5"\n')
    assert (problem.line, problem.path) == (5, "workload.static[0].prefix")


def test_static_prefix_given_twice_is_told() -> None:
    static = '[[workload.static]]\nprefix = "10.64.1.5/32"\ninterface = "veth5"\n'
    assert the_problem(ROUTER + static + static).path == "workload.static[1].prefix"
    assert the_problem(ROUTER + static + static.replace("/32", "")).path == "workload.static[1].prefix"


def test_all_errors_are_told_at_once_in_the_order_of_the_file() -> None:
    text = ROUTER.replace("65203", "0") + NEIGHBOR.replace("65201", "true") + "hold_time_s = 1\n[fib]\nprotocol = 3\n"
    assert [problem.line for problem in problems_of(text)] == [2, 7, 9, 11]


def test_a_wrong_value_is_told_once_and_not_again_by_what_rests_on_it() -> None:
    assert len(problems_of(ROUTER + NEIGHBOR.replace('"10.0.1.2"', "7"))) == 1


def test_near_miss_gets_a_suggestion() -> None:
    assert the_problem(ROUTER + NEIGHBOR + "hold-time-s = 9\n").right == 'did you mean "hold_time_s"?'


def test_password_file_must_hold_a_usable_password(tmp_path: Path) -> None:
    file = tmp_path / "key"
    neighbor = NEIGHBOR + f'password_file = "{file}"\n'
    file.write_text("\n")
    assert "is empty" in the_problem(ROUTER + neighbor).what
    file.write_text("x" * 81)
    assert "81 bytes" in the_problem(ROUTER + neighbor).what
    file.write_text("secret\n")
    parse_config(ROUTER + neighbor, "x.toml")


BAD_ROLES = [
    ('role = "customers"', "role", '"customers" is unknown'),
    ('role = "customer"\nlocal_asn = 65201', "role", "the neighbor is internal"),
    ("role_strict = true", "role_strict", "there is no role"),
]


@pytest.mark.parametrize(("keys", "field", "what"), BAD_ROLES)
@pytest.mark.parametrize("section", [NEIGHBOR, LISTEN], ids=["neighbor", "listen"])
def test_roles_that_cannot_be_used(section: str, keys: str, field: str, what: str) -> None:
    problem = the_problem(ROUTER + section.replace('"external"', "65201") + keys + "\n")
    assert problem.path.endswith(f"[0].{field}")
    assert what in problem.what


@pytest.mark.parametrize("asn", ["65203", '"internal"'])
def test_no_internal_neighbor_has_a_role(asn: str) -> None:
    problem = the_problem(ROUTER + NEIGHBOR.replace("65201", asn) + 'role = "customer"\n')
    assert (problem.path, problem.what) == ("neighbor[0].role", 'is "customer", and the neighbor is internal')


@pytest.mark.parametrize("role", ["customer", "provider", "peer", "rs", "rs-client"])
def test_external_neighbors_may_have_each_role(role: str) -> None:
    for asn in ("65201", '"external"'):
        text = ROUTER + NEIGHBOR.replace("65201", asn) + f'role = "{role}"\nrole_strict = true\n'
        assert parse_config(text, "x.toml")[0].neighbor[0].role == role


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        ('{ key_file = "KEY", send_id = 1, receive_id = 1, algorithm = "md5" }', "[0].algorithm", '"md5"'),
        ('{ key_file = "KEY", send_id = 256, receive_id = 1 }', "[0].send_id", "256"),
        ('{ key_file = "/nonexistent", send_id = 1, receive_id = 1 }', "[0].key_file", "cannot be read"),
        (
            '{ key_file = "KEY", send_id = 1, receive_id = 1 }, { key_file = "KEY", send_id = 1, receive_id = 2 }',
            "[1].send_id",
            "1 is another key's",
        ),
        (
            '{ key_file = "KEY", send_id = 1, receive_id = 2 }, { key_file = "KEY", send_id = 2, receive_id = 2 }',
            "[1].receive_id",
            "2 is another key's",
        ),
    ],
)
@pytest.mark.parametrize("section", [NEIGHBOR, LISTEN], ids=["neighbor", "listen"])
def test_tcp_ao_keys_that_cannot_be_used(tmp_path: Path, section: str, keys: str, path: str, words: str) -> None:
    (tmp_path / "key").write_text("secret")
    problem = the_problem(ROUTER + section + f"tcp_ao = [{keys}]\n".replace("KEY", f"{tmp_path}/key"))
    assert problem.path.endswith(f"[0].tcp_ao{path}")
    assert words in problem.what


def test_tcp_ao_and_a_password_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    keys = f'tcp_ao = [{{ key_file = "{tmp_path}/key", send_id = 1, receive_id = 1 }}]\n'
    parse_config(ROUTER + NEIGHBOR + keys, "x.toml")
    problem = the_problem(ROUTER + NEIGHBOR + keys + f'password_file = "{tmp_path}/key"\n')
    assert "remove one of them" in problem.right


@pytest.mark.parametrize("has_it", [True, False])
def test_tcp_ao_on_a_kernel_without_it_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_it: bool
) -> None:
    monkeypatch.setattr(check_sessions, "has_tcp_ao", lambda: has_it)
    (tmp_path / "key").write_text("secret")
    (tmp_path / "key").chmod(0o600)
    keys = f'tcp_ao = [{{ key_file = "{tmp_path}/key", send_id = 1, receive_id = 1 }}]\n'
    _, warnings = parse_config(ROUTER + NEIGHBOR + LIMIT + keys, "x.toml", interfaces=["lo"])
    found = [one for one in warnings if one.path.endswith("tcp_ao")]
    assert len(found) == (0 if has_it else 1)
    for one in found:
        assert "this kernel has no TCP-AO (Linux 6.7" in one.what
        assert "sessions stay down" in one.right


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for file, what in ((tmp_path / "no.toml", "cannot be read"), (tmp_path, "cannot be read"), (binary, "UTF-8")):
        with pytest.raises(ConfigError, match=what):
            load_config(str(file))


def test_a_switch_in_place_of_a_table_is_told_how_to_have_the_defaults() -> None:
    assert the_problem(ROUTER + NEIGHBOR + "bfd = true\n").right == "must be a table: write bfd = {} for the defaults"
    assert the_problem(ROUTER + NEIGHBOR + "bfd = false\n").right == "must be a table"


def test_warnings_name_what_is_likely_not_meant() -> None:
    text = ROUTER + '[policy.unused]\n[api]\nmode = "0666"\ngroup = "no-such-group"\n'
    _, warnings = parse_config(text, "x.toml")
    assert {warning.path for warning in warnings} == {"", "policy.unused", "api.mode", "api.group"}


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('max_prefixes = 0\nmax_prefixes_action = "discard"\n', ["max_prefixes_action"]),
        ("max_prefixes = 0\nmax_prefixes_warn_percent = 50\n", ["max_prefixes_warn_percent"]),
        ("max_prefixes = 0\nmax_prefixes_restart_after_s = 5\n", ["max_prefixes_restart_after_s"]),
        (
            'max_prefixes = 9\nmax_prefixes_action = "discard"\nmax_prefixes_restart_after_s = 5\n',
            ["max_prefixes_restart_after_s"],
        ),
        ("max_prefixes = 9\nmax_prefixes_warn_percent = 50\nmax_prefixes_restart_after_s = 5\n", []),
        ('max_prefixes_action = "discard"\n', []),
        ("max_prefixes = 0\n", []),
    ],
)
def test_what_is_said_of_a_limit_that_there_is_not_is_warned_about(text: str, warned: list[str]) -> None:
    _, warnings = parse_config(ROUTER + NEIGHBOR.replace('"all"', '"none"') + text, "x.toml")
    assert [warning.path for warning in warnings] == [f"neighbor[0].{key}" for key in warned]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (NEIGHBOR, True),
        (NEIGHBOR + "max_prefixes = 0\n", True),
        (NEIGHBOR + "max_prefixes = 2000000\n", True),
        (NEIGHBOR + LIMIT, False),
        (NEIGHBOR.replace('"all"', '"default-only"'), False),
        (NEIGHBOR.replace('"all"', '"some"') + "[policy.some]\n", False),
    ],
)
def test_import_of_all_without_a_limit_is_warned_about(text: str, warned: bool) -> None:
    _, warnings = parse_config(ROUTER + text, "x.toml")
    assert [warning.path for warning in warnings] == (["neighbor[0].import"] if warned else [])
    listen = text.replace("[[neighbor]]", "[[listen]]").replace('name = "leaf1"\naddress', "prefix")
    _, warnings = parse_config(ROUTER + listen.replace("10.0.1.2", "10.0.1.0/24"), "x.toml")
    assert [warning.path for warning in warnings] == (["listen[0].import"] if warned else [])


@pytest.mark.parametrize(
    ("broker", "warned"),
    [
        ("mqtt://broker.example", True),
        ("mqtt://10.0.9.9:1883", True),
        ("mqtt://[2001:db8::9]", True),
        ("mqtts://broker.example", False),
        ("mqtt://127.0.0.1", False),
        ("mqtt://[::1]:1883", False),
        ("mqtt://localhost", False),
    ],
)
def test_a_password_in_clear_text_to_another_host_is_warned_about(tmp_path: Path, broker: str, warned: bool) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o640)
    mqtt = f'[workload.mqtt]\nbroker = "{broker}"\n'
    text = ROUTER + NEIGHBOR + LIMIT + mqtt
    assert parse_config(text, "x.toml")[1] == []
    _, warnings = parse_config(f'{text}password_file = "{tmp_path}/password"\n', "x.toml")
    assert [warning.path for warning in warnings] == (["workload.mqtt.broker"] if warned else [])


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_secret_that_every_user_can_read_is_warned_about(tmp_path: Path, mode: int, warned: bool) -> None:
    file = tmp_path / "secret"
    file.write_text("secret\n")
    file.chmod(mode)
    mqtt = f'[workload.mqtt]\nbroker = "mqtts://b"\npassword_file = "{file}"\nkey_file = "{file}"\n'
    text = ROUTER + NEIGHBOR + LIMIT + f'password_file = "{file}"\n' + mqtt
    _, warnings = parse_config(text, "x.toml")
    paths = ["neighbor[0].password_file", "workload.mqtt.password_file", "workload.mqtt.key_file"]
    assert sorted(warning.path for warning in warnings) == sorted(paths if warned else [])
    assert "secret\n" not in str(warnings)


def test_a_file_whose_reading_might_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    problem = the_problem(ROUTER + NEIGHBOR + f'password_file = "{tmp_path}/fifo"\n')
    assert "is not a regular file" in problem.what


@pytest.mark.parametrize(
    ("broker", "what"),
    [
        ("mqtt://node1:hunter2@b", "names a user or a password"),
        ("mqtt://node1@b", "names a user or a password"),
        ("mqtt://b:99999", "has no port of TCP"),
        ("mqtt://b:0", "has no port of TCP"),
        ("mqtt://b:x", "has no port of TCP"),
        ("mqtts://b/?password=hunter2", "has more than a host and a port"),
        ("mqtts://b:8883/hunter2", "has more than a host and a port"),
        ("mqtts://b#hunter2", "has more than a host and a port"),
        ("mqtt://[2001:db8::1", "has brackets around what is no IPv6 address"),
        ("mqtt://[hunter2]:1883", "has brackets around what is no IPv6 address"),
        ("mqtt://a b", "names no host"),
    ],
)
def test_broker_that_could_never_be_reached_or_would_be_shown_with_its_password(broker: str, what: str) -> None:
    problem = the_problem(ROUTER + f'[workload.mqtt]\nbroker = "{broker}"\n')
    assert what in problem.what
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize("name", ["rack1/node1", "node#1", "node+1"])
def test_host_name_that_no_topic_can_have_is_told_where_it_would_be_in_topics(name: str) -> None:
    text = ROUTER + f'hostname = "{name}"\n'
    problem = the_problem(f'{text}[workload.mqtt]\nbroker = "mqtt://b"\n')
    assert (problem.line, problem.path) == (4, "router.hostname")
    parse_config(f'{text}[workload.mqtt]\nbroker = "mqtt://b"\nhost = "node1"\n', "x.toml")
    parse_config(text, "x.toml")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (ROUTER + NEIGHBOR.replace("leaf1", "leaf\\n1"), "neighbor[0].name"),
        (ROUTER + '[state]\ndirectory = "/var/lib\\u0000"\n', "state.directory"),
        (ROUTER + NEIGHBOR + 'password_file = "/etc/bgpd/\\u0000"\n', "neighbor[0].password_file"),
        (ROUTER + '[policy."a\\tb"]\nrules = []\n', "policy.a\tb"),
        (ROUTER + 'loopbacks = ["10.0.0.0/8\\u007f"]\n', "router.loopbacks[0]"),
    ],
)
def test_no_text_has_control_characters(text: str, path: str) -> None:
    problem = the_problem(text)
    assert (problem.path, problem.what[:17]) == (path, "has the character")


@pytest.mark.parametrize(
    ("section", "right"),
    [
        ('[[aggregate]]\nprefix = "2001:db8::%eth0/64"\n', '"2001:db8::/64"'),
        ('[[workload.static]]\ninterface = "veth5"\nprefix = "2001:db8::1%eth0"\n', '"2001:db8::1"'),
        ('[fib]\nprotect = ["fe80::%eth0/64"]\n', '"fe80::/64"'),
        ('[[listen]]\nasn = 65201\nimport = "none"\nprefix = "2001:db8::%eth0/64"\n', '"2001:db8::/64"'),
    ],
)
def test_no_prefix_has_a_scope(section: str, right: str) -> None:
    problem = the_problem(ROUTER + section)
    assert "has a scope" in problem.what
    assert right in problem.right


def test_what_is_no_number_is_in_no_range() -> None:
    problem = the_problem(f"{ROUTER}[workload.services]\nlink_bandwidth_per_weight = nan\n")
    assert (problem.line, problem.what) == (5, "is nan")


def test_main_table_is_not_another_one_before_a_restart() -> None:
    former, _ = parse_config(f"{ROUTER}[fib]\ntable = 1001\n", "x.toml")
    vrf = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\n'
    parse_config(ROUTER + vrf, "x.toml")
    with pytest.raises(
        ConfigError, match=r"vrf\[0\].table: is 1001, which is the main table .* until bgpd is restarted"
    ):
        parse_config(ROUTER + vrf, "x.toml", former=former)


def test_command_directory_is_an_absolute_path() -> None:
    problem = the_problem(ROUTER + '[workload.health]\ncommand_directory = "checks"\n')
    assert "is not an absolute path" in problem.what


def test_a_socket_for_everybody_is_warned_about() -> None:
    for mode, paths in (("0660", []), ("0664", []), ("0666", ["api.mode"])):
        _, warnings = parse_config(ROUTER + NEIGHBOR + LIMIT + f'[api]\nmode = "{mode}"\n', "x.toml")
        assert [warning.path for warning in warnings] == paths


def test_lines_are_found_through_all_forms_of_toml() -> None:
    text = (
        'a.b = 1\n"q k" = """\nx = 1\n"""\n[t]\nlist = [ # comment ]\n  1,\n  { x = "}", y = [ ] },\n]\n'
        "[[t.arr]]\nv = '#'\n[[t.arr]]\nv = 2\n[t.arr.sub]\nz = 1979-05-27\n"
    )
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines["a", "b"] == 1
    assert lines[("q k",)] == 2
    assert lines["t", "list", 1, "y"] == 8
    assert lines["t", "arr", 1, "v"] == 13
    assert lines["t", "arr", 1, "sub", "z"] == 15


@given(st.text(max_size=300))
def test_any_text_gives_a_configuration_or_problems(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text, "x.toml")


values = st.recursive(
    st.integers() | st.booleans() | st.text("ab", max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["asn", "name", "x"]), inner),
    max_leaves=6,
)


@given(st.sampled_from(["router", "neighbor", "listen", "policy", "workload", "fib", "api", "log"]), values)
def test_any_value_in_any_section_is_answered(section: str, value: object) -> None:
    data = {"router": {"asn": 65203, "router_id": "10.0.0.1"}, section: value}
    from bgpd.config.check import check_config, warn_about
    from bgpd.config.shape import shape_config

    config, findings = shape_config(data)
    list(check_config(config))
    list(warn_about(config))
    if not findings:
        assert msgspec.convert(data, Config) == config


def test_override_inside_what_is_protected_is_refused() -> None:
    fib = '\n[fib]\nprotect = ["10.0.0.0/8", "10.2.0.0/16"]\noverride = ["192.0.2.0/24", "10.2.3.0/24"]\n'
    problem = the_problem(ROUTER + fib)
    assert problem.path == "fib.override[1]"
    assert '"10.2.3.0/24" is inside "10.2.0.0/16"' in problem.what


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (ROUTER + NEIGHBOR + 'passive = "yes"\n', "true or false"),
        (ROUTER + NEIGHBOR.replace("65201", "[]"), "a whole number or a text in quotes"),
        (ROUTER.replace("65203", "1.5"), "a whole number"),
        (ROUTER + NEIGHBOR.replace('"leaf1"', "1"), "a text in quotes"),
        ("fib = 1\n" + ROUTER, "a table"),
        (ROUTER + NEIGHBOR + "families = 1\n", "a list"),
    ],
)
def test_wrong_kind_of_value_is_told_with_the_right_one(text: str, right: str) -> None:
    assert right in the_problem(text).right


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, (1 << 20) + 256 * 2_000_000),
        ({"max_prefixes": 1000}, (1 << 20) + 256 * 1000),
        ({"max_prefixes": 0}, (1 << 20) + 256 * 2_000_000),
        ({"max_prefixes": 1000, "max_attribute_bytes": 7}, 7),
        ({"max_prefixes": 1000, "max_attribute_bytes": 0}, 0),
    ],
)
def test_memory_for_attributes_follows_the_number_of_prefixes_unless_it_is_given(
    fields: dict[str, int], limit: int
) -> None:
    neighbor = NeighborConfig(name="leaf1", asn=65201, import_="all", **fields)
    assert attribute_limit(neighbor) == limit


def test_line_of_what_stands_nowhere_is_that_of_the_table_around_it() -> None:
    lines = key_lines('# head\n[ a . "b c" ]\nx . y = 1\n')
    assert lines["a", "b c", "x", "y"] == 3
    assert line_of(lines, ("a", "b c", "missing", 0)) == 2
    assert line_of(lines, ("other",)) == 1


def test_interface_towards_a_neighbor_that_the_host_lacks_is_a_warning_with_those_that_it_has() -> None:
    vrf = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\nuplinks = ["eth0", "eth8"]\n'
    text = ROUTER + NEIGHBOR + LIMIT + 'interface = "eth9"\n' + vrf
    _, warnings = parse_config(text, "x.toml", interfaces=["lo", "eth0", "eth1"])
    absent = [(one.line, one.path, one.what, one.right) for one in warnings if "no interface" in one.what]
    assert absent == [
        (10, "neighbor[0].interface", "there is no interface eth9 now", "this host has eth0, eth1"),
        (15, "vrf[0].uplinks[1]", "there is no interface eth8 now", "this host has eth0, eth1"),
    ]
    _, warnings = parse_config(
        text.replace("eth9", "eth1").replace("eth8", "eth1"), "x.toml", interfaces=["eth0", "eth1"]
    )
    assert not [one for one in warnings if "no interface" in one.what]


@pytest.mark.parametrize(
    ("listen", "wrong"),
    [
        ("127.0.0.1:0", True),
        ("127.0.0.1:1024", False),
        ("127.0.0.1:65535", False),
        ("127.0.0.1:65536", True),
        ("127.0.0.1:-1", True),
        ("127.0.0.1:", True),
        ("[::1]:9179", False),
        ("localhost:9179", True),
    ],
)
def test_port_of_the_api_is_one_of_tcp(listen: str, wrong: bool) -> None:
    text = ROUTER + NEIGHBOR + LIMIT + f'[api]\nlisten = "{listen}"\n'
    if wrong:
        assert the_problem(text).path == "api.listen"
    else:
        assert parse_config(text, "x.toml")[1] == []


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ('["169.254.62.0/24"]', "has 1 prefixes"),
        ('["169.254.62.0/24", "169.254.63.0/24"]', "is the second prefix of its family"),
        ('["169.254.62.0/31", "fd62:6770:6470::/64"]', "is too small"),
        ('["127.9.0.0/16", "fd62:6770:6470::/64"]', "no source that a backend could answer to"),
        ('["169.254.62.0/24", "fe80::/64"]', "no source that a backend could answer to"),
        ('["169.254.62.1/24", "fd62:6770:6470::/64"]', "host bits"),
    ],
)
def test_sources_of_probes_are_one_usable_prefix_of_each_family(sources: str, what: str) -> None:
    problem = the_problem(f"{ROUTER}[workload.health]\nprobe_sources = {sources}\n")
    assert what in problem.what


def test_no_vrf_has_a_table_of_probes() -> None:
    problems = problems_of(f'{ROUTER}[[vrf]]\nname = "blue"\ntable = 2170001\n')
    assert "is 2170001, one of the tables of probes of services" in [problem.what for problem in problems]
