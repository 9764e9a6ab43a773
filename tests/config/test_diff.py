"""What a change of configuration costs."""

from __future__ import annotations

import msgspec

from bgpd.config.diff import config_diff
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
