"""A broker that is absent, or refuses this host: told with what to do, and nothing else waits for it."""

from __future__ import annotations

import contextlib

import pytest

from labs.daemons import Frr, Mosquitto
from tests.daemon.fabric import Fabric, Host, heard_from_host, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API, MQTT, Orchestrator

pytestmark = pytest.mark.netns

POD = toml("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def wait_warning(host: Host, text: str) -> None:
    host.wait(lambda: any(text in warning for warning in host.health()["warnings"]), f"the warning {text!r}")


def works_without_a_broker(host: Host, frr: Frr) -> None:
    """Sessions, static workloads and the API; the host becomes ready when it has waited long enough."""
    host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the static workload")
    host.cli("workload", "add", "here", "--address", "10.64.1.6", "--interface", "pod2")
    host.wait(lambda: heard_from_host(frr, "10.64.1.6/32"), "the leaf to hear the API's")
    host.wait_ready()
    host.cli("workload", "del", "here")


def test_broker_that_is_absent_at_the_start_is_told_and_heard_when_it_comes(fabric: Fabric, frr: Frr) -> None:
    with contextlib.ExitStack() as later, started(fabric, leaf(1), MQTT, API, POD) as host:
        wait_warning(host, "Connection refused; is the broker running there?")
        works_without_a_broker(host, frr)
        feed = later.enter_context(Orchestrator(fabric.host))
        feed.workload("late", "10.64.1.7")
        host.wait(lambda: heard_from_host(frr, "10.64.1.7/32"), "the leaf to hear what came by MQTT", timeout_s=45)
        host.wait(lambda: not host.health()["warnings"], "the warning to go")
        feed.forget(host)


def test_refused_credentials_are_told_with_what_to_check(fabric: Fabric, frr: Frr) -> None:
    directory = fabric.host.make_directory("broker")
    passwords, password = directory / "passwords", directory / "password"
    fabric.host.run("mosquitto_passwd", "-b", "-c", str(passwords), "host1", "right")
    password.write_text("wrong\n")
    mqtt = MQTT + f'username = "host1"\npassword_file = "{password}"\n'
    with (
        Mosquitto(fabric.host, f"listener 1883 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"),
        started(fabric, leaf(1), mqtt, API, POD) as host,
    ):
        wait_warning(host, "check workload.mqtt.username")
        works_without_a_broker(host, frr)
        password.write_text("right\n")
        host.wait(lambda: not host.health()["warnings"], "the connection with the right password", timeout_s=45)
