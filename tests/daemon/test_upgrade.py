"""`bgpd upgrade` without a service manager: the daemon executes what is installed, and the neighbor does not notice."""

from __future__ import annotations

import signal
import sys

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, config, leaf, started
from tests.daemon.managed import said
from tests.daemon.planted import Planted
from tests.daemon.test_handover import IPV4, POD, last_of, spoken
from tests.daemon.wire_peer import KEEPALIVE, NOTIFICATION, WirePeer, update

pytestmark = pytest.mark.netns


def pid(host: Host) -> int:
    return int(host.health()["pid"])


def test_process_becomes_the_installed_version_and_the_session_goes_on(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        for _ in range(3):
            before, process = host.neighbor("leaf1"), pid(host)
            text = host.cli("upgrade")
            assert "hand-over: 1 session went on" in text
            host.wait_ready()
            assert said(connection) == []
            after = host.neighbor("leaf1")
            assert (after["since"], after["flaps"], pid(host)) == (before["since"], before["flaps"], process)
        connection.sendall(update(("10.11.0.0/16",), asn=65201))
        host.wait(lambda: host.get("routes", prefix="10.11.0.0/16"), "a route that came afterwards")


def test_what_is_not_confirmed_goes_back_over_upgrades(fabric: Fabric, peer: WirePeer) -> None:
    def retry_s() -> int:
        return int(host.get("config")["neighbor"][0]["connect_retry_s"])

    with started(fabric, leaf(1, **IPV4, connect_retry_s=7), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        host.write_config(config(leaf(1, **IPV4, connect_retry_s=8), POD))
        host.cli("reload", "--confirm", "1h")
        host.cli("upgrade")
        assert retry_s() == 8
        host.cli("reload", "--confirm", "1s")
        host.wait(lambda: retry_s() == 7, "the former configuration")
        with pytest.raises(LabError, match="it has gone back already"):
            host.cli("confirm")
        host.cli("upgrade")
        assert retry_s() == 7, "who confirms too late confirms nothing"
        assert said(connection) == []


def test_configuration_that_the_installed_version_does_not_take_changes_nothing(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        born, text = host.get("upgrade")["born"], host.config_path.read_text()
        host.config_path.write_text("nonsense = 1\n")
        said_to_people = host.cli("upgrade", check=False)
        assert said_to_people == ""
        assert host.get("upgrade")["born"] == born
        host.config_path.write_text(text)
        assert "can start" in host.cli("upgrade", "--check")
        assert host.get("upgrade")["born"] == born
        assert said(connection) == []


KILLED = """
import os, signal
from bgpd.handover import store

become = store.ExecStore.become

def killed(self, command, **given):
    os.kill(os.getpid(), signal.SIGTERM)
    become(self, command, **given)

store.ExecStore.become = killed
"""


def test_signal_that_comes_when_nobody_hears_it_ends_the_next_program(
    fabric: Fabric, peer: WirePeer, planted: Planted
) -> None:
    planted.code(KILLED)
    with started(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        host.cli("upgrade", check=False)
        host.wait(lambda: host.processes[-1].exit_code == 0, "the next program to end")
        assert last_of(connection) == NOTIFICATION, "it was stopped, and said so"
        assert "handover.heard" in host.log_path.read_text()


class HangingHost(Host):
    """Becomes a version that hangs at its start, though it can be started to see whether it can."""

    def start(self, *, wait: bool = True) -> None:
        text = "import os, time\nif 'BGPD_DESCRIPTORS' in os.environ: time.sleep(600)\n"
        text += "import sys\nfrom bgpd.__main__ import main\nsys.exit(main())"
        self.program = [sys.executable, "-c", text]
        super().start(wait=wait)


def test_installed_version_that_hangs_ends_before_the_hold_time_and_the_neighbor_is_told_nothing(
    fabric: Fabric, peer: WirePeer
) -> None:
    with HangingHost(fabric.host, config(leaf(1, **IPV4, graceful_restart={}), POD)) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        host.cli("upgrade", "--timeout", "1s", check=False)
        assert last_of(connection) == KEEPALIVE
        host.wait(lambda: host.processes[-1].exit_code == -signal.SIGALRM, "the process to end")
        host.start()
        peer.establish()
        host.wait_established("leaf1")
