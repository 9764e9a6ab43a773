"""A state directory in trouble: full, or with a file that was cut short."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from labs.process import run_command
from tests.daemon.fabric import Fabric, Host, heard_from_host, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API, MQTT, Orchestrator
from tests.daemon.test_feed_input import BAD
from tests.daemon.test_local_api import order

pytestmark = pytest.mark.netns

TABLES = (leaf(1), MQTT, API)
GOOD = {"addresses": ["10.64.1.1"], "interface": "pod1"}


def claims(host: Host, id: str) -> dict[str, str]:
    return {view["prefix"]: view["state"] for view in host.get("workloads") if view["id"] == id}


@contextlib.contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[Path]:
    """A file system with hardly any room."""
    path.mkdir()
    run_command(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)])
    try:
        yield path
    finally:
        run_command(["umount", "-l", str(path)])


def test_full_state_directory_is_told_costs_only_persistence_and_is_written_when_there_is_room(
    fabric: Fabric, frr: Frr, feed: Orchestrator, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "state", 64) as state,
        started(fabric, *TABLES, toml("[state]", directory=str(state))) as host,
    ):
        host.wait_ready()
        filler = state / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        feed.publish("workloads/full", GOOD)
        host.wait(lambda: heard_from_host(frr, "10.64.1.1/32"), "the leaf to hear it all the same")
        assert "announced" in host.cli("workload", "add", "full2", "--address", "10.64.1.2", "--interface", "pod1")
        host.wait(
            lambda: any("No space" in e["wrong"] for e in feed.latest("status")["errors"]), "the status to say so"
        )
        assert any("No space left" in warning for warning in host.health()["warnings"])
        added = order(host, "PUT", "workloads/full3", {"addresses": ["10.64.1.3"], "interface": "pod1"})
        assert (added[0], "No space left" in added[1]["not_saved"]) == (202, True)
        filler.unlink()
        host.wait(lambda: not feed.latest("status")["errors"], "it to be written")
        assert order(host, "PUT", "workloads/full3", {"addresses": ["10.64.1.3"], "interface": "pod1"})[0] == 200
        host.kill()
        feed.broker.kill()
        host.start()
        host.wait(lambda: claims(host, "full") and claims(host, "full2"), "both claims to be restored")
    feed.broker.start()
    feed.publish("workloads/full", "")


def test_truncated_state_file_is_kept_aside_told_and_rebuilt_from_the_feed(
    fabric: Fabric, frr: Frr, feed: Orchestrator, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with started(fabric, *TABLES, toml("[state]", directory=str(state))) as host:
        host.wait_ready()
        feed.publish("workloads/cut", GOOD)
        host.wait(lambda: heard_from_host(frr, "10.64.1.1/32"), "the leaf to hear it")
        host.terminate()
        file = state / "mqtt.json"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        host.start()
        host.wait(lambda: claims(host, "cut") == {"10.64.1.1/32": "announced"}, "the claim from the feed")
        assert (state / "mqtt.json.damaged").read_bytes() == whole[: len(whole) // 2]
        assert host.log("state.damaged")[-1]["kept_as"] == f"{file}.damaged"
        host.wait(lambda: file.exists() or list(state.glob("mqtt.json.*.journal")), "a new state file")
        host.terminate()
        assert json.loads(file.read_bytes())["workloads"].keys() == {"cut"}
    feed.publish("workloads/cut", "")


def test_wrong_entries_of_a_state_file_cost_only_themselves_and_are_told(
    fabric: Fabric, frr: Frr, tmp_path: Path
) -> None:
    """Whatever no other entrance takes: each entry is left out with its reason, the file is kept aside."""
    entries = {name: json.loads(payload) for name, (payload, _, _) in BAD.items() if payload.startswith("{")}
    no_vrf = entries.pop("no such VRF")
    names = {name: f"wrong{number}" for number, name in enumerate(entries)}
    workloads = {names[name]: entry for name, entry in entries.items()} | {"good": GOOD, "no-vrf": no_vrf}
    (tmp_path / "api.json").write_text(json.dumps({"journal": 1, "workloads": workloads}))
    with started(fabric, leaf(1), API, toml("[state]", directory=str(tmp_path))) as host:
        host.wait(lambda: heard_from_host(frr, "10.64.1.1/32"), "the good one to be announced")
        assert [view["id"] for view in host.get("workloads")] == ["good"]
        told = {record["entry"]: record["reason"] for record in host.log("state.entry_left_out")}
        assert told.keys() == {f"workload {id}" for id in names.values()}
        for name, (_, path, said) in BAD.items():
            if name in names and said not in ("unknown field", "is empty", "is missing"):  # in msgspec's words there
                assert said in told[f"workload {names[name]}"], name
                assert path.partition("[")[0] in told[f"workload {names[name]}"], name
        assert any(f"{len(names) - 1} more cannot be taken" in warning for warning in host.health()["warnings"])
        kept = json.loads((tmp_path / "api.json.damaged").read_text())
        assert kept["workloads"].keys() == workloads.keys()
        status, report = order(host, "GET", "workloads/no-vrf")
        assert (status, report["errors"][0]["wrong"]) == (200, 'there is no VRF "red" any more')
        host.cli("workload", "add", "new", "--address", "10.64.1.2", "--interface", "pod1")
        host.wait(lambda: not host.health()["warnings"], "the state to be written without them")
        assert host.terminate() == 0
        assert json.loads((tmp_path / "api.json").read_text())["workloads"].keys() == {"good", "no-vrf", "new"}
