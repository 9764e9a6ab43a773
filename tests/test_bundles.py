"""Support bundles: complete with and without the daemon, without secrets, and few of those that the daemon takes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.api.server import ApiServer
from bgpd.bundles import KEPT, PAUSE_S, UNREADY_S, Bundles
from bgpd.cli import bundle
from bgpd.cli.client import Client
from bgpd.config.redaction import REDACTED
from bgpd.config.schema import ApiConfig, Config, RouterConfig
from bgpd.config.schema_workloads import MqttWorkloadConfig, WorkloadConfig
from bgpd.log import EventRing
from bgpd.model.views.host import HealthView
from bgpd.runtime.events import Event
from bgpd.speaker.socket_options import set_md5_key
from tests.scripted_backend import ScriptedBackend

ROOT = Path(__file__).parent.parent
SECRET = "hunter2"
CONFIG = Config(
    router=RouterConfig(asn=65203, router_id="10.255.1.1"),
    workload=WorkloadConfig(mqtt=MqttWorkloadConfig(broker=f"mqtt://bgpd:{SECRET}@broker", password_file="/etc/pw")),
)


class Backend(ScriptedBackend):
    def config(self) -> Config:
        return CONFIG


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "bgpd.sock"
    server = ApiServer(ApiConfig(socket=str(path)), Backend())
    await server.start()
    yield path
    await server.stop()


def read(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            found[member.name.removeprefix("bgpd-bundle/")] = content.read().decode()
        return found


def taken(file: Path | str, socket: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bgpd", "bundle", "--socket", str(socket), "--reason", "a test", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


async def test_bundle_has_all_and_no_secret(api: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    done = await asyncio.to_thread(taken, file, api)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    parts = read(file)
    assert json.loads(parts["about.json"])["reason"] == "a test"
    assert [view["name"] for view in json.loads(parts["neighbors.json"])] == ["leaf1", "leaf2"]
    config = json.loads(parts["config.json"])
    assert config["workload"]["mqtt"]["broker"] == f"mqtt://{REDACTED}@broker"
    assert config["workload"]["mqtt"]["password_file"] == "/etc/pw"
    assert json.loads(parts["status.json"])["reasons"] == ["no neighbor is established"]
    assert "bgpd_routes 3" in parts["metrics.txt"]
    assert "lo:" in parts["kernel/links.txt"]
    assert not any(SECRET in text for text in parts.values())
    assert "/v1/bfd" in done.stderr, "what could not be had is told"


def test_bundle_without_the_daemon_has_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    done = taken(file, tmp_path / "none.sock")
    assert done.returncode == 0
    parts = read(file)
    assert "is not running" in parts["neighbors.json"]
    assert parts["kernel/routes4.txt"].startswith("$ ip")


def test_bundle_is_not_written_into_what_was_there_before(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("before")
    (tmp_path / "b.tar.gz.part").symlink_to(theirs)
    assert taken(tmp_path / "b.tar.gz", tmp_path / "none.sock").returncode == 0
    assert theirs.read_text() == "before"
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600


def test_bundle_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    for place, why in ((tmp_path / "none" / "b.tar.gz", "No such file"), (Path("/dev/full"), "is no file")):
        done = taken(place, tmp_path / "none.sock")
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
    assert list(tmp_path.iterdir()) == []


class Host:
    """What the daemon would say of itself."""

    def __init__(self) -> None:
        self.ready = True
        self.drained = False
        self.reasons = ["no neighbor is established"]

    def health(self) -> HealthView:
        return HealthView(ready=self.ready, reasons=self.reasons)


@pytest.fixture
def host() -> Host:
    return Host()


def bundles(host: Host, directory: Path, socket: Path | str = "") -> Bundles:
    events = EventRing()
    events.keep(Event("info", "x", {"password": "p"}, 1.0))
    return Bundles(
        str(directory),
        socket=str(socket),
        events=events,
        health=host.health,
        neighbors=list,
        config=lambda: CONFIG,
        is_drained=lambda: host.drained,
    )


def test_one_is_taken_after_a_minute_without_readiness_and_then_not_for_an_hour(host: Host, tmp_path: Path) -> None:
    one = bundles(host, tmp_path)
    assert not one.is_due(0)
    host.ready = False
    assert not one.is_due(10)
    assert not one.is_due(10 + UNREADY_S - 1)
    assert one.is_due(10 + UNREADY_S)
    assert not one.is_due(10 + 2 * PAUSE_S), "one for each time that it is not ready"
    host.ready = True
    assert not one.is_due(20_000)
    host.ready = False
    assert not one.is_due(20_001)
    assert one.is_due(20_001 + UNREADY_S)
    for ready, at in ((True, 20_100), (False, 20_101)):
        host.ready = ready
        one.is_due(at)
    assert not one.is_due(20_101 + UNREADY_S), "one an hour"
    assert one.is_due(20_061 + PAUSE_S)


def test_none_is_taken_of_a_host_that_a_person_took_out(host: Host, tmp_path: Path) -> None:
    one = bundles(host, tmp_path)
    host.ready, host.drained = False, True
    assert not one.is_due(0)
    assert not one.is_due(1000)


async def test_taken_by_itself_in_a_process_of_its_own(
    host: Host, api: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    one = bundles(host, tmp_path, api)
    await one._take("- no neighbor is established")
    (file,) = one.directory.glob("bgpd-*-unready.tar.gz")
    assert json.loads(read(file)["about.json"])["reason"] == "- no neighbor is established"


def test_at_a_defect_what_the_process_has_is_kept(host: Host, tmp_path: Path) -> None:
    one = bundles(host, tmp_path)

    def broken() -> Any:
        raise RuntimeError("state may be wrong")

    one._neighbors = broken
    one.at_defect(ValueError("a bug"))
    one.at_defect(ValueError("another"))
    (file,) = one.directory.glob("bgpd-*-defect.tar.gz")
    parts = read(file)
    assert "ValueError: a bug" in parts["error.txt"]
    assert "cannot be had" in parts["neighbors.json"]
    assert json.loads(parts["events.json"])[0]["fields"] == {"password": REDACTED}
    assert SECRET not in "".join(parts.values())


def test_few_are_kept_and_a_full_disk_is_no_second_defect(host: Host, tmp_path: Path) -> None:
    one = bundles(host, tmp_path)
    one.directory.mkdir()
    for number in range(KEPT + 3):
        (one.directory / f"bgpd-2026010{number}-000000-unready.tar.gz").write_bytes(b"x")
    (one.directory / "bgpd-20260101-000000-unready.tar.gz.part").write_bytes(b"x")
    (one.directory / "notes").write_text("mine")
    one.at_defect(ValueError("a bug"))
    files = sorted(path.name for path in one.directory.iterdir())
    assert len(files) == KEPT + 1
    assert "notes" in files
    assert not any(name.endswith(".part") for name in files)
    nowhere = bundles(host, tmp_path / "no" / "such")
    nowhere.at_defect(ValueError("a bug"))


def test_those_of_a_clock_that_has_gone_back_are_the_oldest(host: Host, tmp_path: Path) -> None:
    """By their times they are the newest: each new one would have been the first to go."""
    one = bundles(host, tmp_path)
    one.directory.mkdir()
    for number in range(KEPT):
        file = one.directory / f"bgpd-2106010{number}-000000-unready.tar.gz"
        file.write_bytes(b"x")
        os.utime(file, (4_300_000_000 + number,) * 2)
    for number in range(2):
        (one.directory / f"bgpd-20261128-04000{number}-unready.tar.gz").write_bytes(b"x")
        one._make_room()
    names = {path.name for path in one.directory.iterdir()}
    assert {name for name in names if name.startswith("bgpd-2026")} == {
        f"bgpd-20261128-04000{number}-unready.tar.gz" for number in range(2)
    }


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ss") is None, reason="only root is shown the keys, by ss")
def test_keys_of_tcp_md5_are_not_in_what_is_told_of_sockets() -> None:
    loopback = socket.inet_aton("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        port = listener.getsockname()[1]
        for one in (listener, client):
            set_md5_key(one, loopback, 32, SECRET.encode())
        client.connect(("127.0.0.1", port))
        *command, _ = bundle._PROGRAMS["kernel/sockets.txt"]
        shown = bundle._said_by((*command, f"sport = :{port} or dport = :{port}"), [])
    assert f"127.0.0.1:{port}" in shown
    assert SECRET not in shown


def test_view_that_was_cut_off_has_no_secret_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_text", lambda *asked: f'[{{"password": "{SECRET}", "next":')
    assert SECRET not in bundle._view(Client(""), "/v1/events", [])
