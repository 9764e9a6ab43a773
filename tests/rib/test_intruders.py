"""Who else announces a workload's address: when it is an alarm, and when it ends."""

from __future__ import annotations

import pytest

from bgpd.model.attributes import Aggregator
from bgpd.model.source import Source, SourceKind
from tests.logs import capture_logs
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

ADDRESS = "10.64.1.5/32"
HOP1, HOP2 = hop("10.0.1.2"), hop("10.0.2.2")


def host(**fields: object) -> tuple[Recorder, Source, Source]:
    configs = session("leaf1", **fields), session("leaf2", **fields)
    recorder = Recorder(configuration(*configs))
    return recorder, recorder.up(leaf(1), configs[0]), recorder.up(leaf(2), configs[1])


def own(recorder: Recorder, *prefixes: str, is_service: bool = False) -> None:
    keys = [key(prefix) for prefix in prefixes]
    recorder.rib.announce_local(LOCAL, V4, keys, attributes(), is_service=is_service)


@pytest.mark.parametrize("workload_first", [True, False])
@pytest.mark.parametrize("import_", ["all", "default-only", "none"])
def test_an_alarm_begins_and_ends_whoever_came_first_and_whatever_policy_says(
    workload_first: bool, import_: str
) -> None:
    recorder, leaf1, leaf2 = host(import_=import_)
    with capture_logs() as logs:
        if workload_first:
            own(recorder, ADDRESS, "10.64.1.6/32")
        recorder.announce(leaf1, attributes(65201, 65209), HOP1, ADDRESS, "10.9.0.0/16")
        if not workload_first:
            own(recorder, ADDRESS, "10.64.1.6/32")
        contested = recorder.rib.contested
        assert contested.neighbors("", V4, key(ADDRESS)) == ["leaf1"]
        assert contested.warnings() == [f"{ADDRESS} is a workload's here, and announced by leaf1, too"]
        recorder.announce(leaf2, attributes(65202), HOP2, ADDRESS)
        assert contested.neighbors("", V4, key(ADDRESS)) == ["leaf1", "leaf2"]
        recorder.withdraw(leaf1, ADDRESS)
        assert contested.neighbors("", V4, key(ADDRESS)) == ["leaf2"]
        drain(recorder.rib.received.neighbor_down(leaf2))
        assert contested.warnings() == []
    events = [(one["event"], one.get("neighbors")) for one in logs if one["event"].startswith("workload.")]
    assert events == [
        ("workload.foreign_announcement", ["leaf1"]),
        ("workload.foreign_announcement", ["leaf1", "leaf2"]),
        ("workload.foreign_announcement_ended", None),
    ]


def test_an_alarm_ends_with_the_workload() -> None:
    recorder, leaf1, _ = host()
    own(recorder, ADDRESS)
    recorder.announce(leaf1, attributes(65201), HOP1, ADDRESS)
    recorder.rib.withdraw_local(LOCAL, V4, [key(ADDRESS)])
    assert recorder.rib.contested.found == {}


def test_echoes_services_aggregates_and_routes_beside_are_no_alarm() -> None:
    recorder, leaf1, leaf2 = host(local_asn=65299, allow_own_as=1)
    own(recorder, ADDRESS)
    own(recorder, "10.64.9.9/32", is_service=True)
    recorder.announce(leaf1, attributes(65201, LOCAL_ASN), HOP1, ADDRESS)
    recorder.announce(leaf2, attributes(65202, 65299), HOP2, ADDRESS)
    recorder.announce(leaf1, attributes(65201, 65204), HOP1, "10.64.9.9/32", "10.64.1.0/24", "10.64.1.4/31")
    assert recorder.rib.contested.found == {}
    own(recorder, "10.64.9.9/32")
    assert recorder.rib.contested.neighbors("", V4, key("10.64.9.9/32")) == ["leaf1"]
    given = attributes(65201, aggregator=Aggregator(asn=LOCAL_ASN, router_id=bytes((10, 255, 1, 1))))
    recorder.announce(leaf1, given, HOP1, "10.64.9.9/32")
    assert recorder.rib.contested.found == {}


def test_hosts_by_evpn_are_left_to_mac_mobility_and_many_alarms_are_counted() -> None:
    recorder, leaf1, _ = host()
    evpn = leaf(3, kind=SourceKind.EVPN)
    own(recorder, ADDRESS, *(f"10.64.2.{number}/32" for number in range(40)))
    recorder.announce(recorder.up(evpn, session("leaf3")), attributes(65203), HOP1, ADDRESS)
    assert recorder.rib.contested.found == {}
    with capture_logs() as logs:
        recorder.announce(leaf1, attributes(65201), HOP1, *(f"10.64.2.{number}/32" for number in range(40)))
    assert len(logs) == 17
    warnings = recorder.rib.contested.warnings()
    assert (len(warnings), warnings[-1]) == (9, "32 more addresses of workloads are announced by neighbors, too")
