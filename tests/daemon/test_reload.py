"""A changed configuration costs what it must: nothing, a refresh, one neighbor's session. An error costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, config, frr_paths, heard_from_host, kernel_hops, leaf, started, table

pytestmark = pytest.mark.netns

BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
BASE = (leaf(1), leaf(2), POD)
NOT_8 = '[policy.not-8]\nrules = [{ match = { prefix = ["10.9.0.0/16"] } }]\n'
NOT_9 = '[policy.not-9]\nrules = [{ match = { prefix = ["10.8.0.0/16"] } }]\n'


@pytest.fixture(scope="module")
def leaves(fabric: Fabric) -> Iterator[tuple[Frr, Frr]]:
    networks = ("10.9.0.0/16", "10.8.0.0/16")
    with fabric.frr(1, networks=networks) as leaf1, fabric.frr(2, networks=networks) as leaf2:
        yield leaf1, leaf2


@pytest.fixture(scope="module")
def daemon(fabric: Fabric, leaves: tuple[Frr, Frr]) -> Iterator[Host]:
    with started(fabric, *BASE) as host:
        host.wait_ready()
        yield host


@pytest.fixture
def host(daemon: Host) -> Host:
    daemon.write_config(config(*BASE))
    daemon.cli("reload")
    daemon.wait_established("leaf1", "leaf2")
    for prefix in ("10.9.0.0/16", "10.8.0.0/16"):
        daemon.wait_hops(prefix, *BOTH)
    return daemon


def sessions(host: Host) -> dict[str, int]:
    """How often each neighbor was established."""
    return {view["name"]: view["established_count"] for view in host.get("neighbors")}


def reload(host: Host, *tables: str) -> dict[str, Any]:
    """`bgpd reload --json` with a configuration."""
    host.write_config(config(*tables))
    answer: dict[str, Any] = json.loads(host.cli("reload", "--json", check=False))
    return answer


def effects(answer: dict[str, Any]) -> dict[str, str]:
    return {change["path"]: change["effect"] for change in answer["changes"]}


def test_same_file_changes_nothing(host: Host) -> None:
    before = sessions(host)
    assert host.cli("reload") == "nothing changes\n"
    assert sessions(host) == before


def test_sighup_is_a_reload(host: Host, leaves: tuple[Frr, Frr]) -> None:
    host.write_config(config(*BASE, table("[[workload.static]]", prefix="10.64.1.9/32", interface="pod2")))
    host.reload()
    host.wait(lambda: heard_from_host(leaves[0], "10.64.1.9/32"), "the leaf to hear the new pod")


def test_no_op_lets_sessions_be(host: Host) -> None:
    before = sessions(host)
    answer = reload(host, leaf(1, max_prefixes=77, connect_retry_s=7), leaf(2), POD)
    assert effects(answer) == {"neighbor.leaf1.max_prefixes": "no-op", "neighbor.leaf1.connect_retry_s": "no-op"}
    assert sessions(host) == before


def test_tightened_import_policy_takes_routes_out_and_back(host: Host) -> None:
    before = sessions(host)
    answer = reload(host, leaf(1, import_="not-9"), leaf(2), POD, NOT_9)
    assert effects(answer) == {"neighbor.leaf1.import": "refresh", "policy.not-9": "refresh"}
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    assert kernel_hops(host.namespace, "10.8.0.0/16") == list(BOTH)
    rejected = [
        candidate
        for candidate in host.get("routes", prefix="10.9.0.0/16")[0]["candidates"]
        if candidate["role"] == "rejected"
    ]
    assert [candidate["source"] for candidate in rejected] == ["leaf1"]
    assert "not-9" in rejected[0]["reason"]
    reload(host, *BASE)
    host.wait_hops("10.9.0.0/16", *BOTH)
    assert sessions(host) == before


def test_changed_export_is_told_without_a_reset(host: Host, leaves: tuple[Frr, Frr]) -> None:
    before = sessions(host)
    reload(host, leaf(1, export="none"), leaf(2), POD)
    host.wait(lambda: not frr_paths(leaves[0], "10.64.1.5/32"), "leaf1 to lose the pod")
    assert heard_from_host(leaves[1], "10.64.1.5/32")
    reload(host, *BASE)
    host.wait(lambda: heard_from_host(leaves[0], "10.64.1.5/32"), "leaf1 to hear the pod again")
    assert sessions(host) == before


def test_session_parameters_reset_one_neighbor_only(host: Host) -> None:
    before = sessions(host)
    answer = reload(host, leaf(1, hold_time_s=30), leaf(2), POD)
    assert effects(answer) == {"neighbor.leaf1.hold_time_s": "reset"}
    assert answer["changes"][0]["neighbors"] == ["leaf1"]
    host.wait(lambda: "leaf1" in host.established() and host.neighbor("leaf1")["hold_time_s"] == 30, "the new session")
    assert sessions(host)["leaf2"] == before["leaf2"]
    assert kernel_hops(host.namespace, "10.9.0.0/16")


def test_removed_neighbor_ends_and_comes_back(host: Host, leaves: tuple[Frr, Frr]) -> None:
    before = sessions(host)
    answer = reload(host, leaf(2), POD)
    assert effects(answer) == {"neighbor.leaf1": "reset"}
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    assert [view["name"] for view in host.get("neighbors")] == ["leaf2"]
    assert "Peer De-configured" in leaves[0].vtysh("show bgp neighbors 10.0.1.1 json")
    reload(host, *BASE)
    host.wait_hops("10.9.0.0/16", *BOTH)
    assert sessions(host)["leaf2"] == before["leaf2"]


def test_neighbor_goes_into_a_vrf_that_is_renamed_and_comes_back(host: Host) -> None:
    before = sessions(host)["leaf2"]
    in_blue = leaf(1, interface="eth0", vrf="blue")
    blue = table("[[vrf]]", name="blue", table=1001, vni=5001, uplinks=["eth0"])
    answer = reload(host, in_blue, leaf(2), POD, blue)
    assert answer["problems"] == []
    assert effects(answer)["neighbor.leaf1.vrf"] == "reset"
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    host.wait_established("leaf1", "leaf2")
    host.wait(lambda: routes_of(host, 1001), "leaf1's routes in the table of its VRF")
    connected = host.get("explain/10.0.1.2", vrf="blue")
    assert (connected["kernel"]["next_hops"][0]["interface"], connected["agrees"]) == ("eth0", True)
    answer = reload(host, *(text.replace('"blue"', '"green"') for text in (in_blue, leaf(2), POD, blue)))
    assert (answer["problems"], [view["problem"] for view in host.get("vrfs")]) == ([], [""])
    host.wait(lambda: host.neighbor("leaf1")["vrf"] == "green", "the session in the VRF's new name")
    host.wait_established("leaf1", "leaf2")
    host.wait(lambda: routes_of(host, 1001), "leaf1's routes in the same table")
    reload(host, *BASE)
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait(lambda: not routes_of(host, 1001), "an empty table")
    assert sessions(host)["leaf2"] == before


@pytest.mark.vm
def test_leaf_can_connect_in_a_vrf_whose_table_changes(host: Host, leaves: tuple[Frr, Frr]) -> None:
    """The device is another one then. Nobody could connect by the sockets that were bound to the former one."""
    neighbor = leaf(1, interface="eth0", vrf="blue", passive=True)
    run, connect = leaves[0].namespace.run, "exec 3<>/dev/tcp/10.0.1.1/179 && echo connected"
    for number in (1001, 1002):
        blue = table("[[vrf]]", name="blue", table=number, vni=5001, uplinks=["eth0"])
        assert reload(host, neighbor, leaf(2), POD, blue)["problems"] == []
        host.wait(lambda: "connected" in run("bash", "-c", connect, check=False), f"a connection in table {number}")
    reload(host, *BASE)
    host.wait_hops("10.9.0.0/16", *BOTH)


def routes_of(host: Host, number: int) -> bool:
    """Whether the prefixes of the leaves are in a table."""
    found = host.namespace.run("ip", "route", "show", "table", str(number), check=False)
    return "10.9.0.0/16" in found and "10.8.0.0/16" in found


def test_what_counts_from_a_start_is_told(host: Host) -> None:
    answer = reload(host, *BASE, table("[fib]", metric=50))
    assert effects(answer) == {"fib.metric": "restart"}
    assert kernel_hops(host.namespace, "10.9.0.0/16") == list(BOTH)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[router", "is not valid TOML"),
        (config(*BASE, "[workload.kernell]\n"), "kernell"),
        (config(leaf(1, hold_time_s="long"), leaf(2)), "hold_time_s"),
        (config(leaf(1), leaf(1)), "leaf1"),
        (config(leaf(1, import_="nowhere")), "nowhere"),
        (config(leaf(1), table("[[workload.static]]", prefix="10.64.1.500/32", interface="pod1")), "10.64.1.500/32"),
    ],
    ids=["bad TOML", "unknown key", "wrong type", "duplicate neighbor", "no such policy", "bad prefix"],
)
def test_error_changes_nothing_and_is_told_with_its_line(host: Host, text: str, said: str) -> None:
    before, fib = sessions(host), host.get("config")
    host.config_path.write_text(text + f'\n[api]\nsocket = "{host.socket_path}"\n')
    answer = json.loads(host.cli("reload", "--json", check=False))
    assert any(said in problem for problem in answer["problems"])
    assert all(problem.startswith(f"{host.config_path}:") for problem in answer["problems"])
    assert answer["changes"] == []
    told = len(host.log("reload.done"))
    host.reload()
    host.wait(lambda: len(host.log("reload.done")) > told, "the second answer")
    assert any(said in record["problem"] for record in host.log("reload.problem")[-2:])
    assert not host.log("reload.done")[-1]["applied"]
    assert sessions(host) == before
    assert host.get("config") == fib
    assert kernel_hops(host.namespace, "10.9.0.0/16") == list(BOTH)


def test_missing_file_changes_nothing(host: Host) -> None:
    before = sessions(host)
    host.config_path.unlink()
    answer = json.loads(host.cli("reload", "--json", check=False))
    assert "No such file" in answer["problems"][0]
    assert sessions(host) == before


def test_plan_says_what_a_reload_would_do_and_does_nothing(host: Host) -> None:
    before = sessions(host)
    plan = host.directory / "planned.toml"
    running = host.config_path.read_text()
    host.write_config(config(leaf(1, hold_time_s=30), leaf(2, import_="none"), POD))
    host.config_path.rename(plan)
    host.config_path.write_text(running)
    said = host.cli("plan", str(plan))
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [
        ["reset", "neighbor.leaf1.hold_time_s"],
        ["refresh", "neighbor.leaf2.import"],
    ]
    assert sessions(host) == before
    assert kernel_hops(host.namespace, "10.9.0.0/16") == list(BOTH)


def test_a_limit_below_what_is_there_is_a_warning_of_check_plan_and_reload(host: Host) -> None:
    host.wait(lambda: host.neighbor("leaf1")["families"]["ipv4-unicast"]["received"] > 1, "routes of leaf1")
    running = host.config_path.read_text()
    host.write_config(config(leaf(1, max_prefixes=1), leaf(2), POD))
    before = sessions(host)
    said = "max_prefixes is 1, but it has announced"
    for command in ("check", "plan"):
        words = [sys.executable, "-m", "bgpd", command, str(host.config_path)]
        environment = {**os.environ, "BGPD_SOCKET": str(host.socket_path)}
        answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert said in answer.stderr
    assert any(said in warning for warning in json.loads(host.cli("reload", "--json"))["warnings"])
    assert said in host.log("config.warning")[-1]["warning"]
    assert sessions(host) == before
    host.config_path.write_text(running)
    host.cli("reload")


def test_what_is_not_confirmed_goes_back_also_after_a_crash(host: Host) -> None:
    def has_8() -> bool:
        return bool(kernel_hops(host.namespace, "10.8.0.0/16"))

    before = sessions(host)
    without_8 = (leaf(1, import_="not-8"), leaf(2, import_="not-8"), POD, NOT_8)
    host.write_config(config(*without_8))
    view = json.loads(host.cli("reload", "--json", "--confirm", "1s"))
    assert (view["problems"], view["confirm_until"] > 0) == ([], True)
    host.wait(lambda: not has_8(), "the new policy")
    host.wait(has_8, "the former policy")
    with pytest.raises(LabError, match="it has gone back already"):
        host.cli("confirm")
    assert any("not confirmed" in text for text in host.health()["warnings"])
    assert sessions(host) == before
    host.cli("reload", "--confirm", "1h")
    host.wait(lambda: not has_8(), "the new policy")
    host.cli("confirm")
    assert host.health()["warnings"] == []
    with pytest.raises(LabError, match="no configuration is on trial"):
        host.cli("confirm")
    host.write_config(config(*BASE))
    host.cli("reload", "--confirm", "5s")
    host.terminate(signal.SIGKILL)
    state = host.directory / "state"
    (state / "trial.json").write_text("{")
    time.sleep(5)
    host.start()
    host.wait_established("leaf1", "leaf2")
    host.wait_ready()
    assert not has_8(), "the file says otherwise, but nobody has confirmed it; one copy of that is enough"
    host.cli("reload")
    host.wait(has_8, "what the file says")
    assert host.health()["warnings"] == []
    host.cli("reload", "--confirm", "1h")
    host.terminate(signal.SIGKILL)
    for name in ("trial.json", "trial.copy.json"):
        (state / name).write_text("{")
    host.start()
    host.wait_ready()
    assert any("trial.json cannot be read" in text for text in host.health()["warnings"])
    host.cli("confirm")
    assert host.health()["warnings"] == []


def test_what_left_the_file_before_a_trial_is_not_back_after_it(host: Host) -> None:
    """It counts from the next start on: what a trial goes back to had it from this run, and later runs had it again."""
    text = host.config_path.read_text()
    host.write_config(text + "\n[workload.api]\ntimeout_s = 7\n")
    host.terminate(signal.SIGTERM)
    host.start()
    host.wait_ready()
    host.write_config(text)
    host.cli("reload")
    host.write_config(config(leaf(1, max_prefixes=77), leaf(2), POD))
    host.cli("reload", "--confirm", "1s")
    host.wait(lambda: any("not confirmed" in text for text in host.health()["warnings"]), "the end of the trial")
    host.terminate(signal.SIGTERM)
    host.start()
    host.wait_ready()
    assert "workload.api" not in host.cli("plan", str(host.config_path)), "the file has none, and nothing has"


def test_a_trial_has_no_other_state_directory(host: Host) -> None:
    text = host.config_path.read_text()
    host.write_config(text.replace(f'directory = "{host.directory}', f'directory = "{host.directory}/elsewhere'))
    assert host.config_path.read_text() != text
    with pytest.raises(LabError, match="cannot be another one on trial"):
        host.cli("reload", "--confirm", "1h")
    assert host.health()["warnings"] == []
    host.cli("reload")
    host.write_config(text)
    host.cli("reload")
