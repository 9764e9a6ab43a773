"""What one neighbor says, as paths: graceful shutdown of a neighbor, whatever the import policy sets."""

from __future__ import annotations

import pytest

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN, COMMUNITY_NO_EXPORT
from bgpd.model.path import Path
from bgpd.model.source import SourceKind
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

PREFIX = "10.1.0.0/24"
HOP1, HOP2 = hop("10.0.1.2"), hop("10.0.2.2")
DRAINED = attributes(65201, communities=(COMMUNITY_NO_EXPORT, COMMUNITY_GRACEFUL_SHUTDOWN))


def policy(**changes: object) -> dict[str, PolicyConfig]:
    change = SetConfig(**changes)  # type: ignore[arg-type]
    return {"p": PolicyConfig(rules=(RuleConfig(match=MatchConfig(), set=change, action="accept"),))}


def heard(kind: SourceKind = SourceKind.EBGP, **changes: object) -> Path:
    """The path of a route with GRACEFUL_SHUTDOWN, after an import policy with these changes."""
    config = session("leaf1", import_="p" if changes else "all")
    recorder = Recorder(configuration(config, policy=policy(**changes) if changes else {}))
    recorder.announce(recorder.up(leaf(1, kind=kind), config), DRAINED, HOP1, PREFIX)
    decision = recorder.rib.decision("", V4, key(PREFIX))
    assert decision is not None
    return decision.candidates[0]


@pytest.mark.parametrize("kind", [SourceKind.EBGP, SourceKind.IBGP])
def test_graceful_shutdown_of_a_neighbor_is_local_pref_0(kind: SourceKind) -> None:
    assert heard(kind).attributes.local_pref == 0
    assert heard(kind).received.local_pref is None
    assert heard(kind, local_pref=200).attributes.local_pref == 0
    assert heard(kind, add_community=("65000:1",)).attributes.local_pref == 0


def test_graceful_shutdown_counts_only_as_the_policy_leaves_it() -> None:
    assert heard(local_pref=200, remove_community=("graceful-shutdown",)).attributes.local_pref == 200
    assert heard(remove_community=("65535:0",)).attributes.local_pref is None


@pytest.mark.parametrize("import_", ["all", "default-only", "p"])
def test_a_neighbor_in_graceful_shutdown_is_used_only_where_no_other_has_the_route(import_: str) -> None:
    names = ("leaf1", "leaf2")
    configs = [session(name, import_=import_) for name in names]
    recorder = Recorder(configuration(*configs, policy=policy(local_pref=300)))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    default = "0.0.0.0/0"
    recorder.announce(leaf1, attributes(65201), HOP1, default)
    recorder.announce(leaf2, attributes(65201), HOP2, default)
    assert recorder.fib[key(default)] == (HOP1, HOP2)
    recorder.announce(leaf1, DRAINED, HOP1, default)
    assert recorder.fib[key(default)] == (HOP2,)
    drain(recorder.rib.received.neighbor_down(leaf2))
    assert recorder.fib[key(default)] == (HOP1,)
    recorder.announce(leaf1, attributes(65201), HOP1, default)
    assert recorder.fib[key(default)] == (HOP1,)
