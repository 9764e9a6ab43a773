"""What differs between two configurations, what each difference costs, and what counts only from a start."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bgpd.config.effects import Effect, config_diff, effect_of, keep_until_restart, resets_session
from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import GracefulRestartConfig, ListenConfig, NeighborConfig, TcpAoKeyConfig
from bgpd.model.views.orders import ConfigChangeView

BASE = """
[router]
asn = 65203
router_id = "10.255.1.1"
[workload.mqtt]
broker = "mqtt://127.0.0.1"
[workload.kernel]
interfaces = ["cali*"]
[fib]
metric = 30
"""
OTHER = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    str: lambda value: value + "x",
    tuple: lambda value: (*value, "l2vpn-evpn"),
    type(None): lambda value: 1,
    GracefulRestartConfig: lambda value: GracefulRestartConfig(mode="off"),
}


def config(*changes: tuple[str, str]) -> Config:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_config(text, "x.toml")[0]


def neighbor(**fields: Any) -> NeighborConfig:
    return NeighborConfig(**({"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import_": "all"} | fields))


def listen(**fields: Any) -> ListenConfig:
    return ListenConfig(**({"prefix": "10.0.0.0/8", "asn": 65201, "import_": "all"} | fields))


@pytest.mark.parametrize(
    ("section", "make", "field"),
    [("neighbor", neighbor, field) for field in NeighborConfig.__struct_fields__ if field != "bfd"]
    + [("listen", listen, field) for field in ListenConfig.__struct_fields__ if field != "bfd"],
)
def test_session_is_reset_just_where_the_plan_says_so(section: str, make: Any, field: str) -> None:
    old = make()
    value = getattr(old, field)
    new = make(**{field: OTHER[type(value)](value)})
    key = dict(zip(old.__struct_fields__, old.__struct_encode_fields__))[field]
    begins = field == "tcp_ao"  # given where none was: no connection gets it while it is open
    assert resets_session(section, old, new) is (begins or effect_of((section, key)) is Effect.RESET)


def test_other_tcp_ao_keys_reset_nothing_and_none_at_all_do() -> None:
    keys = tuple(TcpAoKeyConfig(key_file="key", send_id=number, receive_id=number) for number in (1, 2))
    plain, one, two = neighbor(), neighbor(tcp_ao=keys[:1]), neighbor(tcp_ao=keys)
    assert not resets_session("neighbor", one, two)
    assert not resets_session("neighbor", two, one)
    assert resets_session("neighbor", one, plain)
    assert resets_session("neighbor", plain, two)


def test_what_counts_from_a_start_stays_as_it_was() -> None:
    changed = (
        ("127.0.0.1", "127.0.0.2"),
        ("cali*", "tap*"),
        ("metric = 30", "metric = 40"),
        ("asn = 65203", "asn = 7"),
    )
    old, new = config(), config(*changed)
    kept = keep_until_restart(old, new)
    assert (kept.workload.mqtt, kept.fib) == (old.workload.mqtt, old.fib)
    assert (kept.workload.kernel, kept.router) == (new.workload.kernel, new.router)


def test_section_that_comes_or_goes_counts_from_a_start() -> None:
    without = parse_config(BASE.replace('[workload.mqtt]\nbroker = "mqtt://127.0.0.1"\n', ""), "x.toml")[0]
    assert keep_until_restart(config(), without).workload.mqtt == config().workload.mqtt
    assert keep_until_restart(without, config()).workload.mqtt is None


def test_effect_is_that_of_the_longest_beginning() -> None:
    assert effect_of(("neighbor", "graceful_restart", "restart_time_s")) is Effect.RESET
    assert effect_of(("workload", "kernel", "interfaces")) is Effect.NO_OP
    assert effect_of(("log",)) is Effect.NO_OP


SESSIONS = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = 65201
import = "p"
[[neighbor]]
name = "leaf2"
address = "10.0.2.2"
asn = 65201
import = "all"
[policy.p]
rules = [{ action = "accept" }]
[[workload.static]]
prefix = "10.64.1.5/32"
interface = "pod1"
"""


def parsed(text: str) -> Config:
    return parse_config(text, "x.toml")[0]


def the_change(old: str, new: str) -> ConfigChangeView:
    (change,) = config_diff(parsed(SESSIONS), parsed(SESSIONS.replace(old, new, 1)))
    return change


def test_equal_configurations_have_no_difference() -> None:
    assert config_diff(parsed(SESSIONS), parsed("\n" + SESSIONS)) == []


def test_session_field_resets_this_neighbor_only() -> None:
    change = the_change('import = "p"', 'import = "p"\nhold_time_s = 30')
    expected = ("neighbor.leaf1.hold_time_s", "reset", ["leaf1"], 9, 30)
    assert (change.path, change.effect, change.neighbors, change.old, change.new) == expected


def test_import_is_a_refresh() -> None:
    change = the_change('import = "all"', 'import = "none"')
    assert (change.path, change.effect, change.neighbors) == ("neighbor.leaf2.import", "refresh", ["leaf2"])


def test_policy_refreshes_those_that_use_it() -> None:
    change = the_change('action = "accept"', 'action = "reject"')
    assert (change.path, change.effect, change.neighbors) == ("policy.p", "refresh", ["leaf1"])


def test_order_of_neighbors_means_nothing() -> None:
    old = parsed(SESSIONS)
    assert config_diff(old, msgspec.structs.replace(old, neighbor=old.neighbor[::-1])) == []


def test_added_neighbor_touches_no_other_and_a_removed_one_ends() -> None:
    old = parsed(SESSIONS)
    new = msgspec.structs.replace(old, neighbor=old.neighbor[:1])
    (removed,), (added,) = config_diff(old, new), config_diff(new, old)
    assert (removed.change, removed.effect, removed.neighbors) == ("removed", "reset", ["leaf2"])
    assert (added.change, added.effect, added.neighbors) == ("added", "no-op", ["leaf2"])
    assert added.new["address"] == "10.0.2.2"


RANGE = '[[listen]]\nprefix = "{}"\nasn = "external"\nimport = "all"\nmax_neighbors_per_interface = 16\n'


@pytest.mark.parametrize(
    ("before", "added", "ended"),
    [
        ("10.0.0.0/16", '[[neighbor]]\nname = "n"\naddress = "10.0.3.2"\nasn = 65201\nimport = "all"\n', True),
        ("10.1.0.0/16", '[[neighbor]]\nname = "n"\naddress = "10.0.3.2"\nasn = 65201\nimport = "all"\n', False),
        ("fe80::/10", '[[neighbor]]\nname = "n"\ninterface = "eth9"\nasn = 65201\nimport = "all"\n', True),
        ("10.0.0.0/16", '[[neighbor]]\nname = "n"\ninterface = "eth9"\nasn = 65201\nimport = "all"\n', False),
        ("10.0.0.0/16", RANGE.format("10.1.0.0/16"), False),
    ],
)
def test_section_that_is_added_ends_sessions_of_the_range_that_it_takes_neighbors_from(
    before: str, added: str, ended: bool
) -> None:
    old = SESSIONS + RANGE.format(before)
    (change,) = config_diff(parsed(old), parsed(old + added))
    assert change.change == "added"
    assert (change.effect, change.neighbors == [before]) == (("reset", True) if ended else ("no-op", False))


def test_workload_is_a_no_op_for_sessions() -> None:
    change = the_change('interface = "pod1"', 'interface = "pod2"')
    assert (change.path, change.effect) == ("workload.static.10.64.1.5/32.interface", "no-op")


def test_own_as_number_resets_all() -> None:
    change = the_change("asn = 65203", "asn = 65204")
    assert (change.path, change.effect, change.neighbors) == ("router.asn", "reset", ["leaf1", "leaf2"])


def test_kernel_ownership_waits_for_a_restart() -> None:
    change = the_change("[policy.p]", "[fib]\nprotocol = 198\n[policy.p]")
    assert (change.path, change.effect) == ("fib.protocol", "restart")


def test_the_preferred_source_follows_a_reload_and_the_rest_of_fib_does_not() -> None:
    old, new = config(), config(("metric = 30", 'metric = 30\npreferred_source = "loopback"\nprotocol = 198'))
    kept = keep_until_restart(old, new)
    assert (kept.fib.preferred_source, kept.fib.protocol) == ("loopback", old.fib.protocol)
    effects = {change.path: change.effect for change in config_diff(old, new)}
    assert effects == {"fib.preferred_source": "no-op", "fib.protocol": "restart"}


LISTEN = """
[[listen]]
prefix = "10.0.0.0/24"
asn = 65201
import = "p"
"""


def listen_changes(old: str, new: str) -> list[tuple[str, str, str, list[str]]]:
    """What each change costs between two configurations of [[listen]]."""
    changes = config_diff(parsed(SESSIONS + old), parsed(SESSIONS + new))
    return [(change.path, change.change, change.effect, change.neighbors) for change in changes]


def test_listen_that_comes_costs_nothing_and_one_that_goes_ends_its_sessions() -> None:
    other = LISTEN.replace("10.0.0.0/24", "10.0.9.0/24")
    assert listen_changes(LISTEN, LISTEN + other) == [("listen.10.0.9.0/24", "added", "no-op", ["10.0.9.0/24"])]
    assert listen_changes(LISTEN + other, LISTEN) == [("listen.10.0.9.0/24", "removed", "reset", ["10.0.9.0/24"])]
    assert listen_changes(LISTEN + other, other + LISTEN) == []
    assert listen_changes(LISTEN, other) == [
        ("listen.10.0.0.0/24", "removed", "reset", ["10.0.0.0/24"]),
        ("listen.10.0.9.0/24", "added", "no-op", ["10.0.9.0/24"]),
    ]


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        ("asn = 65201", 'asn = "external"', "asn", "reset"),
        ("asn = 65201", "asn = 65202", "asn", "reset"),
        ('import = "p"', 'import = "all"', "import", "refresh"),
        ('import = "p"', 'import = "p"\nexport = "none"', "export", "refresh"),
        ('import = "p"', 'import = "p"\nhold_time_s = 30', "hold_time_s", "reset"),
        ('import = "p"', 'import = "p"\nmin_hold_time_s = 9', "min_hold_time_s", "no-op"),
        ('import = "p"', 'import = "p"\nmax_neighbors = 9', "max_neighbors", "no-op"),
        ('import = "p"', 'import = "p"\nmax_prefixes = 9', "max_prefixes", "no-op"),
    ],
)
def test_field_of_a_listen_concerns_the_neighbors_of_its_range_only(old: str, new: str, key: str, effect: str) -> None:
    expected = [(f"listen.10.0.0.0/24.{key}", "changed", effect, ["10.0.0.0/24"])]
    assert listen_changes(LISTEN, LISTEN.replace(old, new)) == expected


def test_what_all_share_concerns_the_ranges_too() -> None:
    with_listen = SESSIONS + LISTEN
    (change,) = config_diff(parsed(with_listen), parsed(with_listen.replace('action = "accept"', 'action = "reject"')))
    assert (change.path, change.neighbors) == ("policy.p", ["leaf1", "10.0.0.0/24"])
    (change,) = config_diff(parsed(with_listen), parsed(with_listen.replace("asn = 65203", "asn = 65204")))
    assert (change.path, change.neighbors) == ("router.asn", ["leaf1", "leaf2", "10.0.0.0/24"])


def test_policy_that_only_an_export_names_is_in_use() -> None:
    exported = SESSIONS.replace('import = "p"', 'import = "all"\nexport = "p"')
    (change,) = config_diff(parsed(exported), parsed(exported.replace('action = "accept"', 'action = "reject"')))
    assert (change.effect, change.neighbors) == ("refresh", ["leaf1"])


def test_policy_that_nobody_uses_costs_nothing() -> None:
    unused = SESSIONS + '[policy.unused]\nrules = [{ action = "accept" }]\n'
    (added,) = config_diff(parsed(SESSIONS), parsed(unused))
    assert (added.path, added.change, added.effect, added.neighbors) == ("policy.unused", "added", "no-op", [])
    (removed,) = config_diff(parsed(unused), parsed(SESSIONS))
    assert (removed.path, removed.change, removed.effect) == ("policy.unused", "removed", "no-op")


def test_change_that_needs_a_restart_or_nothing_concerns_no_neighbor() -> None:
    for text in ("[fib]\nmetric = 7\n", '[log]\nlevel = "debug"\n'):
        (change,) = config_diff(parsed(SESSIONS), parsed(SESSIONS + text))
        assert change.neighbors == []
