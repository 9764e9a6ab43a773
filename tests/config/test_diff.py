"""What a change of configuration costs."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.effects import config_diff
from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.model.views import ConfigChangeView

BASE = """
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


def config(text: str) -> Config:
    return parse_config(text, "x.toml")[0]


def the_change(old: str, new: str) -> ConfigChangeView:
    (change,) = config_diff(config(BASE), config(BASE.replace(old, new, 1)))
    return change


def test_equal_configurations_have_no_difference() -> None:
    assert config_diff(config(BASE), config("\n" + BASE)) == []


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
    old = config(BASE)
    assert config_diff(old, msgspec.structs.replace(old, neighbor=old.neighbor[::-1])) == []


def test_added_neighbor_touches_no_other_and_a_removed_one_ends() -> None:
    old = config(BASE)
    new = msgspec.structs.replace(old, neighbor=old.neighbor[:1])
    (removed,), (added,) = config_diff(old, new), config_diff(new, old)
    assert (removed.change, removed.effect, removed.neighbors) == ("removed", "reset", ["leaf2"])
    assert (added.change, added.effect, added.neighbors) == ("added", "no-op", ["leaf2"])
    assert added.new["address"] == "10.0.2.2"


def test_workload_is_a_no_op_for_sessions() -> None:
    change = the_change('interface = "pod1"', 'interface = "pod2"')
    assert (change.path, change.effect) == ("workload.static.10.64.1.5/32.interface", "no-op")


def test_own_as_number_resets_all() -> None:
    change = the_change("asn = 65203", "asn = 65204")
    assert (change.path, change.effect, change.neighbors) == ("router.asn", "reset", ["leaf1", "leaf2"])


def test_kernel_ownership_waits_for_a_restart() -> None:
    change = the_change("[policy.p]", "[fib]\nprotocol = 198\n[policy.p]")
    assert (change.path, change.effect) == ("fib.protocol", "restart")


LISTEN = """
[[listen]]
prefix = "10.0.0.0/24"
asn = 65201
import = "p"
"""


def listen_changes(old: str, new: str) -> list[tuple[str, str, str, list[str]]]:
    """What each change costs between two configurations of [[listen]]."""
    changes = config_diff(config(BASE + old), config(BASE + new))
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
    with_listen = BASE + LISTEN
    (change,) = config_diff(config(with_listen), config(with_listen.replace('action = "accept"', 'action = "reject"')))
    assert (change.path, change.neighbors) == ("policy.p", ["leaf1", "10.0.0.0/24"])
    (change,) = config_diff(config(with_listen), config(with_listen.replace("asn = 65203", "asn = 65204")))
    assert (change.path, change.neighbors) == ("router.asn", ["leaf1", "leaf2", "10.0.0.0/24"])


def test_policy_that_only_an_export_names_is_in_use() -> None:
    exported = BASE.replace('import = "p"', 'import = "all"\nexport = "p"')
    (change,) = config_diff(config(exported), config(exported.replace('action = "accept"', 'action = "reject"')))
    assert (change.effect, change.neighbors) == ("refresh", ["leaf1"])


def test_policy_that_nobody_uses_costs_nothing() -> None:
    unused = BASE + '[policy.unused]\nrules = [{ action = "accept" }]\n'
    (added,) = config_diff(config(BASE), config(unused))
    assert (added.path, added.change, added.effect, added.neighbors) == ("policy.unused", "added", "no-op", [])
    (removed,) = config_diff(config(unused), config(BASE))
    assert (removed.path, removed.change, removed.effect) == ("policy.unused", "removed", "no-op")


def test_change_that_needs_a_restart_or_nothing_concerns_no_neighbor() -> None:
    for text in ("[fib]\nmetric = 7\n", '[log]\nlevel = "debug"\n'):
        (change,) = config_diff(config(BASE), config(BASE + text))
        assert change.neighbors == []
