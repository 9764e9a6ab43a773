"""Workloads by MQTT, from the broker to the leaf: claimed, told, kept over every loss, deleted when that is sure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, clear_kernel, heard_from_host, kernel_hops, kernel_routes, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API, MQTT, Orchestrator

pytestmark = pytest.mark.netns

BLOCK = toml("[[aggregate]]", prefix="10.66.0.0/24", summary_only=True, blackhole=True)
STATIC = toml("[[workload.static]]", prefix="10.64.9.1/32", interface="pod1")
ABSENT = leaf(2, name="lost+leaf")
"""It never answers, so that who starts with it is not ready for 15 s; its name is none that a topic may have."""
TABLES = (leaf(1), MQTT, API, BLOCK, STATIC)


@pytest.fixture(scope="module")
def shared(fabric: Fabric, frr: Frr, feed: Orchestrator) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_ready()
        yield host


@pytest.fixture
def host(shared: Host, feed: Orchestrator) -> Iterator[Host]:
    yield shared
    feed.forget(shared)


def wait_heard(host: Host, frr: Frr, prefix: str) -> None:
    host.wait(lambda: heard_from_host(frr, prefix), f"the leaf to hear {prefix}")


def wait_forgotten(host: Host, frr: Frr, prefix: str) -> None:
    host.wait(lambda: not heard_from_host(frr, prefix), f"the leaf to forget {prefix}")


def test_claim_is_kept_in_the_kernel_announced_and_told_until_it_is_deleted(
    fabric: Fabric, host: Host, frr: Frr, feed: Orchestrator
) -> None:
    feed.workload("vm1", "10.64.1.1", "2001:db8:64::1/128", kind="vm", mac="02:00:00:00:00:01", sticky=True)
    for prefix in ("10.64.1.1/32", "2001:db8:64::1/128"):
        wait_heard(host, frr, prefix)
        assert kernel_hops(fabric.host, prefix) == ["pod1"]
    assert kernel_routes(fabric.host)["10.64.1.1"]["scope"] in ("link", "253")
    report = feed.wait_state(host, "vm1", "announced")
    assert [(a["prefix"], a["state"], a["announced"]) for a in report["addresses"]] == [
        ("10.64.1.1/32", "announced", True),
        ("2001:db8:64::1/128", "announced", True),
    ]
    assert report["since"] > 0
    assert feed.retained("workloads/vm1/state") == report
    view = next(view for view in host.get("workloads") if view["prefix"] == "10.64.1.1/32")
    assert (view["kind"], view["mac"], view["sticky"]) == ("vm", "02:00:00:00:00:01", True)
    feed.workload("vm1")
    wait_forgotten(host, frr, "10.64.1.1/32")
    host.wait_hops("10.64.1.1/32")
    host.wait(lambda: feed.retained("workloads/vm1/state") is None, "the state to be cleared")


def test_missing_interface_is_waited_for_and_its_loss_told(
    fabric: Fabric, host: Host, frr: Frr, feed: Orchestrator
) -> None:
    feed.workload("pod7", "10.64.1.7", interface="late7")
    assert "late7 does not exist" in feed.wait_state(host, "pod7", "pending")["reason"]
    assert not heard_from_host(frr, "10.64.1.7/32")
    fabric.host.batch("link add late7 type veth peer name late7p", "link set late7p up", "link set late7 up")
    wait_heard(host, frr, "10.64.1.7/32")
    feed.wait_state(host, "pod7", "announced")
    fabric.host.ip("link", "del", "late7")
    wait_forgotten(host, frr, "10.64.1.7/32")
    feed.wait_state(host, "pod7", "pending")


def test_what_an_aggregate_stands_for_is_told_suppressed_and_an_exception_escapes(
    host: Host, frr: Frr, feed: Orchestrator
) -> None:
    feed.workload("inside", "10.66.0.5")
    report = feed.wait_state(host, "inside", "suppressed")
    assert report["reason"] == "covered by 10.66.0.0/24"
    feed.workload("moved", "10.66.0.6", exception=True)
    wait_heard(host, frr, "10.66.0.6/32")
    wait_heard(host, frr, "10.66.0.0/24")
    assert not heard_from_host(frr, "10.66.0.5/32")
    assert feed.wait_state(host, "moved", "announced")


def test_address_claimed_twice_is_told_on_both_and_the_next_one_follows(
    fabric: Fabric, host: Host, frr: Frr, feed: Orchestrator
) -> None:
    feed.workload("first", "10.64.1.9")
    wait_heard(host, frr, "10.64.1.9/32")
    feed.workload("second", "10.64.1.9", interface="pod2")
    late = feed.wait_state(host, "second", "conflict")
    early = feed.wait_state(host, "first", "conflict")
    assert "mqtt workload first on pod1" in late["reason"]
    assert not late["addresses"][0]["announced"]
    assert "mqtt workload second on pod2" in early["reason"]
    assert early["addresses"][0]["announced"]
    assert kernel_hops(fabric.host, "10.64.1.9/32") == ["pod1"]
    feed.workload("first")
    host.wait_hops("10.64.1.9/32", "pod2")
    feed.wait_state(host, "second", "announced")
    assert heard_from_host(frr, "10.64.1.9/32")


def test_static_configuration_comes_before_orchestrators_where_the_holder_goes(
    fabric: Fabric, host: Host, feed: Orchestrator
) -> None:
    """Static, MQTT and API claim one address; the first stays, and static follows it before those that came earlier."""
    tables = (*TABLES, toml("[[workload.static]]", prefix="10.64.1.11/32", interface="pod2", id="ours"))
    feed.workload("holder", "10.64.1.11")
    host.wait_hops("10.64.1.11/32", "pod1")
    assert "conflict" in host.cli(
        "workload", "add", "api1", "--address", "10.64.1.11", "--interface", "eth1", check=False
    )
    config = host.config_path.read_text()
    host.write_config(config + tables[-1])
    host.cli("reload")
    host.wait(lambda: [v for v in host.get("workloads") if v["id"] == "ours"], "the static claim")
    assert kernel_hops(fabric.host, "10.64.1.11/32") == ["pod1"]
    feed.workload("holder")
    host.wait_hops("10.64.1.11/32", "pod2")
    views = {v["id"]: v["state"] for v in host.get("workloads") if v["prefix"] == "10.64.1.11/32"}
    assert views == {"ours": "conflict", "api1": "conflict"}
    host.cli("workload", "del", "api1")
    host.write_config(config)
    host.cli("reload")
    host.wait_hops("10.64.1.11/32")


def test_status_neighbors_and_events_are_told(fabric: Fabric, host: Host, frr: Frr, feed: Orchestrator) -> None:
    text = host.config_path.read_text()
    host.write_config(text + ABSENT)
    host.cli("reload")
    host.wait(lambda: (feed.retained("status") or {}).get("ready"), "the status to say ready")
    host.wait(lambda: "lost+leaf" in feed.latest("status")["neighbors"], "the new neighbor to be told")
    status = feed.retained("status")
    schema = json.loads(host.cli("schema", "status"))
    properties = schema["$defs"]["HostStatus"]["properties"]
    assert status.keys() == properties.keys()
    assert status["online"]
    assert status["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert status["version"] == host.health()["version"]
    assert status["neighbors"]["leaf1"] == "established"
    assert status["neighbors"]["lost+leaf"] != "established"
    assert feed.retained("neighbors/lost%2Bleaf")["state"] != "established"
    assert feed.retained("neighbors/leaf1")["state"] == "established"
    frr.vtysh("clear bgp *")
    host.wait(lambda: (feed.latest("neighbors/leaf1") or {}).get("state") != "established", "the loss to be told")
    host.wait(lambda: (feed.latest("neighbors/leaf1") or {}).get("state") == "established", "the return to be told")
    host.wait(lambda: (feed.latest("status") or {})["ready"], "readiness to be told")

    def told() -> list[str]:
        changes = [event for event in feed.heard("events") if event["event"] == "neighbor.state"]
        return [event["state"] for event in changes if event["neighbor"] == "leaf1"]

    host.wait(lambda: told()[-1:] == ["established"], "the return to be told as an event")
    assert set(told()) > {"established"}
    host.write_config(text)
    host.cli("reload")
    host.wait(lambda: "lost+leaf" not in feed.latest("status")["neighbors"], "the removed neighbor to be forgotten")
    host.wait(lambda: feed.retained("neighbors/lost%2Bleaf") is None, "its topic to be cleared")


def test_only_a_later_generation_that_is_complete_deletes(host: Host, frr: Frr, feed: Orchestrator) -> None:
    for number in (1, 2, 3):
        feed.workload(f"g{number}", f"10.64.2.{number}")
    feed.publish("sync", {"generation": 5, "count": 3})
    host.wait(lambda: (feed.latest("status") or {}).get("generation") == 5, "generation 5 to be applied")
    feed.publish("sync", {"generation": 6, "count": 2})
    host.wait(lambda: (feed.latest("status") or {}).get("complete") is False, "the partial snapshot to be told")
    assert {"g1", "g2", "g3"} <= {view["id"] for view in host.get("workloads")}
    feed.workload("g3")
    wait_forgotten(host, frr, "10.64.2.3/32")
    host.wait(lambda: feed.latest("status")["generation"] == 6, "generation 6 to be applied")
    feed.publish("sync", {"generation": 4, "count": 0})
    host.wait(lambda: feed.latest("status")["errors"], "the older generation to be refused")
    assert "older" in feed.latest("status")["errors"][0]["wrong"]
    assert {view["id"] for view in host.get("workloads") if view["source"] == "mqtt"} == {"g1", "g2"}
    feed.publish("sync", "")


def test_service_that_the_orchestrator_no_longer_has_ends_with_the_next_generation(
    host: Host, frr: Frr, feed: Orchestrator
) -> None:
    """Its deletion was never heard: the broker has lost all, and with it the service."""
    feed.workload("a", "10.64.7.1")
    backends = [{"id": "a", "addresses": ["10.64.7.1"]}]
    for name, address in (("web", "10.64.77.1"), ("dns", "10.64.77.2")):
        feed.publish(f"services/{name}", {"addresses": [address], "backends": backends})
        wait_heard(host, frr, f"{address}/32")
    host.kill()
    feed.lose_all()
    host.start()
    wait_heard(host, frr, "10.64.77.1/32")
    feed.workload("a", "10.64.7.1")
    feed.publish("services/dns", {"addresses": ["10.64.77.2"], "backends": backends})
    feed.publish("sync", {"generation": 10, "count": 1, "services": 2})
    host.wait(
        lambda: any("is incomplete" in one for one in host.health()["warnings"]), "the generation to be incomplete"
    )
    assert heard_from_host(frr, "10.64.77.1/32"), "a partial snapshot deletes nothing"
    feed.publish("sync", {"generation": 10, "count": 1, "services": 1})
    wait_forgotten(host, frr, "10.64.77.1/32")
    assert heard_from_host(frr, "10.64.77.2/32")
    assert not any("is incomplete" in one for one in host.health()["warnings"])
    feed.publish("sync", "")


def test_orchestrator_that_counts_anew_gives_another_epoch(host: Host, frr: Frr, feed: Orchestrator) -> None:
    feed.workload("a", "10.64.7.1")
    wait_heard(host, frr, "10.64.7.1/32")
    feed.publish("sync", {"generation": 1, "count": 1})
    host.wait(lambda: feed.latest("status")["errors"], "the older generation to be refused")
    assert 'another "epoch"' in feed.latest("status")["errors"][0]["right"]
    feed.publish("sync", {"generation": 1, "count": 1, "epoch": "anew"})
    host.wait(lambda: feed.latest("status")["epoch"] == "anew", "the other epoch to be applied")
    assert (feed.latest("status")["generation"], feed.latest("status")["errors"]) == (1, [])
    feed.publish("sync", "")


def test_broker_loss_and_crashes_of_the_daemon_delete_nothing(
    fabric: Fabric, host: Host, frr: Frr, feed: Orchestrator
) -> None:
    feed.workload("kept", "10.64.3.1")
    wait_heard(host, frr, "10.64.3.1/32")
    host.cli("workload", "add", "api-kept", "--address", "10.64.3.2", "--interface", "pod2")
    host.kill()
    clear_kernel(fabric.host)
    feed.broker.kill()
    host.start()
    host.wait_hops("10.64.3.1/32", "pod1")
    host.wait_hops("10.64.3.2/32", "pod2")
    wait_heard(host, frr, "10.64.3.1/32")
    wait_heard(host, frr, "10.64.3.2/32")
    assert any("Connection refused" in warning for warning in host.health()["warnings"])
    feed.broker.start()
    host.wait(lambda: (feed.retained("status") or {}).get("online"), "the status at the new broker")
    assert heard_from_host(frr, "10.64.3.1/32")
    host.cli("workload", "del", "api-kept")
    wait_forgotten(host, frr, "10.64.3.2/32")


def test_killed_daemon_leaves_its_last_will_and_a_stopped_one_its_goodbye(
    fabric: Fabric, host: Host, feed: Orchestrator
) -> None:
    host.wait(lambda: (feed.retained("status") or {}).get("online"), "the status")
    host.kill()
    host.wait(lambda: not feed.retained("status")["online"], "the last will")
    assert feed.retained("status")["reason"] == "the daemon is gone"
    host.start()
    host.wait(lambda: feed.retained("status")["online"], "the status again")
    host.terminate()
    assert feed.retained("status")["reason"] == "the daemon was stopped"
    host.start()
    host.wait_ready()
