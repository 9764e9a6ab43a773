"""What a change of each key costs, and what counts only from a start."""

from __future__ import annotations

from typing import Any

import pytest

from bgpd.config.effects import Effect, effect_of, keep_until_restart, resets_session
from bgpd.config.load import parse_config
from bgpd.config.schema import Config, GracefulRestartConfig, ListenConfig, NeighborConfig

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
    type(None): lambda value: GracefulRestartConfig(),
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
    assert resets_session(section, old, new) is (effect_of((section, key)) is Effect.RESET)


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
