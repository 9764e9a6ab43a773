"""The HTTP API over a real unix socket."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bgpd.api import stream
from bgpd.api.connections import Credentials
from bgpd.api.server import LONG_ANSWERS, ApiServer
from bgpd.api.stream import view_slices
from bgpd.api.unix_socket import SocketUnusable
from bgpd.config.schema import ApiConfig, LogConfig
from bgpd.log import set_up_logging
from bgpd.runtime.events import log
from tests.logs import log_plainly
from tests.scripted_backend import ScriptedBackend, route
from tests.waiting import PATIENCE_S


@pytest.fixture
async def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
async def http(tmp_path: Path, backend: ScriptedBackend) -> AsyncIterator[aiohttp.ClientSession]:
    path = str(tmp_path / "bgpd.sock")
    server = ApiServer(ApiConfig(socket=path), backend)
    await server.start()
    connector = aiohttp.UnixConnector(path=path)
    async with aiohttp.ClientSession("http://bgpd", connector=connector) as session:
        yield session
    await server.stop()
    assert not Path(path).exists()  # noqa: ASYNC240


async def get(http: aiohttp.ClientSession, target: str, status: int = 200) -> Any:
    async with http.get(target) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_listing_is_an_array_of_views(http: aiohttp.ClientSession) -> None:
    names = [view["name"] for view in await get(http, "/v1/neighbors")]
    assert names == ["leaf1", "leaf2"]
    assert len(await get(http, "/v1/routes")) == 3


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("routes?limit=2", 2),
        ("routes?prefix=10.0.0.1", 1),
        ("routes?prefix=10.0.0.0/30&longer_prefixes=true", 3),
        ("routes?prefix=10.0.0.0/30", 0),
        ("routes?family=ipv6-unicast", 0),
        ("routes?neighbor=leaf2", 3),
        ("routes?neighbor=leaf3", 0),
        ("routes?vrf=blue", 0),
        ("neighbors?state=active", 1),
        ("neighbors?family=ipv4-unicast", 1),
        ("neighbors?neighbor=10.0.1.2", 1),
        ("workloads?source=mqtt", 0),
        ("fib?state=failed", 1),
    ],
)
async def test_query_narrows_a_listing(http: aiohttp.ClientSession, query: str, count: int) -> None:
    assert len(await get(http, f"/v1/{query}")) == count


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/v1/routs", 404, "there is no"),
        ("/v1/routes?prefix=10.0.0.1/24", 400, "host bits"),
        ("/v1/routes?family=ipv5", 400, "no family"),
        ("/v1/routes?limit=x", 400, "int"),
        ("/v1/routes?limit=-1", 400, ">= 0"),
        (f"/v1/routes?limit={'9' * 5000}", 400, ""),
        (f"/v1/explain/{'9' * 5000}", 400, "not an IP address"),
        ("/v1/routes?colour=red", 400, "unknown parameter"),
        ("/v1/explain/10.0.0.1?vfr=red", 400, "unknown parameter"),
        ("/v1/why-not?prefix=10.0.0.0/24&neighbour=leaf1", 400, "unknown parameter"),
        ("/v1/what-if?down=leaf1&forse=true", 400, "unknown parameter"),
        ("/v1/what-if?drain=all&force=yes", 400, "force="),
        ("/v1/routes?neighbor=leaf1&neighbor=leaf2", 400, "given twice"),
        ("/v1/events?since=2000&until=1000", 400, "until is before since"),
        ("/v1/monitor?since=yesterday", 400, "since="),
        ("/v1/explain/10.0.0.1?vrf=&vrf=blue", 400, "given twice"),
        ("/v1/mrt?vrfs=red", 400, "unknown parameter"),
        ("/v1/explain/pod1", 400, "not an IP address"),
        ("/v1/explain/0.0.0.0", 400, "nobody's address"),
        ("/v1/explain/::?at=1700000060", 400, "nobody's address"),
        ("/v1/explain/10.0.0.1?vrf=green", 404, "no VRF"),
        ("/v1/nothing/none", 404, "there is no"),
        ("/v1/routes/none", 405, "cannot be put"),
        ("/v1/workloads/none", 404, "there is no"),
        ("/nothing", 404, "Not Found"),
        ("/v1/broken", 500, "failed to answer"),
    ],
)
async def test_errors_say_what_was_wrong(http: aiohttp.ClientSession, target: str, status: int, error: str) -> None:
    assert error in (await get(http, target, status))["error"]


async def test_orders_reach_the_backend(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    async with http.post("/v1/reload") as response:
        assert response.status == 200
    assert backend.orders == ["reload"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/reload?confirm=60"),
        ("POST", "/v1/confirm?x=1"),
        ("PUT", "/v1/drain?for_s=60"),
        ("DELETE", "/v1/drain?x=1"),
        ("POST", "/v1/upgrade?only_check=true"),
        ("DELETE", "/v1/frozen/02:00:00:00:00:01?x=1"),
        ("PUT", "/v1/workloads/pod9?timeout=3"),
        ("DELETE", "/v1/workloads/pod9?x=1"),
        ("POST", "/v1/what-if?down=leaf1"),
    ],
)
async def test_an_order_with_an_unknown_parameter_is_not_carried_out(
    http: aiohttp.ClientSession, backend: ScriptedBackend, method: str, target: str
) -> None:
    """A reload with confirm=60 in place of confirm_s=60 would be none on trial."""
    async with http.request(method, target, json={}) as response:
        assert response.status == 400
        assert "unknown parameter" in await response.text()
    assert backend.orders == []


async def test_an_order_with_a_parameter_twice_is_not_carried_out(
    http: aiohttp.ClientSession, backend: ScriptedBackend
) -> None:
    async with http.post("/v1/reload?confirm_s=60&confirm_s=3600") as response:
        assert response.status == 400
        assert "given twice" in await response.text()
    assert backend.orders == []


async def test_workloads_are_put_shown_and_deleted(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    async with http.put("/v1/workloads/pod9?timeout_s=3", json={"addresses": ["10.64.1.9/32"]}) as response:
        assert (await response.json())["prefix"] == "10.64.1.9/32"
    assert backend.orders == [f"put pod9 by uid={os.getuid()} gid={os.getgid()} pid={os.getpid()} within 3.0"]
    assert (await get(http, "/v1/workloads/pod9"))["id"] == "pod9"
    for status in (200, 404):
        async with http.delete("/v1/workloads/pod9") as response:
            assert response.status == status
    async with http.put("/v1/routes/x", json={}) as response:
        assert response.status == 405


async def test_number_of_thousands_of_digits_is_an_error_of_the_caller(http: aiohttp.ClientSession) -> None:
    async with http.put(f"/v1/workloads/pod9?timeout_s={'9' * 5000}", json={}) as response:
        assert response.status == 400
        assert "write whole seconds" in await response.text()


async def test_drain_is_ordered_shown_and_ended(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    backend.drain.looks = 1
    async with http.put("/v1/drain", json={"for_s": 60, "all": True}) as response:
        assert (await response.json())["state"] == "draining"
    assert backend.orders == ['drain {"for_s":60,"all":true,"force":false,"shutdown":false}']
    assert (await get(http, "/v1/drain"))["waiting_for"] == ["40 packets/s"]
    async with http.delete("/v1/drain") as response:
        assert (await response.json())["state"] == "off"
    backend.drain.last = "10.64.100.1/32"
    async with http.put("/v1/drain") as response:
        assert (response.status, "10.64.100.1/32" in (await response.json())["error"]) == (409, True)


async def test_upgrade_is_checked_and_then_begins(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    async with http.post("/v1/upgrade", json={"only_check": True}) as response:
        assert (response.status, (await response.json())["installed"]) == (200, "bgpd 2 (plain)")
    assert (await get(http, "/v1/upgrade"))["version"] == "bgpd 1 (plain)"
    backend.upgrade.problem = "SyntaxError"
    async with http.post("/v1/upgrade") as response:
        assert (response.status, (await response.json())["error"]) == (
            409,
            "the installed bgpd cannot start: SyntaxError",
        )
    backend.upgrade.problem = ""
    async with http.post("/v1/upgrade", data=b"[]") as response:
        assert response.status == 400
    assert (await get(http, "/v1/upgrade"))["version"] == "bgpd 1 (plain)"
    async with http.post("/v1/upgrade") as response:
        assert (response.status, (await response.json())["version"]) == (202, "bgpd 1 (plain)")
    assert (await get(http, "/v1/upgrade"))["version"] == "bgpd 2 (plain)"


async def test_upgrade_is_not_for_members_of_the_sockets_group(
    http: aiohttp.ClientSession, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.api.connections.credentials", lambda transport: Credentials(pid=1, uid=4712, gid=4711))
    async with http.post("/v1/upgrade") as response:
        assert response.status == 403
    assert (await get(http, "/v1/upgrade"))["version"] == "bgpd 1 (plain)"


async def test_what_if_of_a_configuration_that_check_refuses_is_an_error_of_the_caller(
    http: aiohttp.ClientSession,
) -> None:
    """One that nothing could be done with was an error of the server. A password may come later, as at a reload."""
    neighbor = {"name": "leaf1", "address": "10.1.0.0", "asn": 65201, "import": "all", "password_file": "/none"}
    config = {"router": {"asn": 65001, "router_id": "10.255.0.1"}, "neighbor": [neighbor]}
    async with http.post("/v1/what-if", json=config) as response:
        assert (response.status, (await response.json())["neighbors_left"]) == (200, ["leaf1"])
    for section, key, value in (("router", "router_id", "x"), ("neighbor", "address", "10.1"), ("vrf", "table", 254)):
        wrong = {"vrf": [{"name": "blue", "table": 1001, "vni": 1}], **json.loads(json.dumps(config))}
        ([wrong["router"]] if section == "router" else wrong[section])[0][key] = value
        async with http.post("/v1/what-if", json=wrong) as response:
            assert response.status == 400
            assert key in (await response.json())["error"]


@pytest.mark.parametrize("body", ["{", '{"for_s": 0}', '{"until": 3}', "[]", '{"all": "yes"}'])
async def test_order_of_a_drain_that_is_none_is_refused(
    http: aiohttp.ClientSession, backend: ScriptedBackend, body: str
) -> None:
    async with http.put("/v1/drain", data=body) as response:
        assert response.status == 400
    assert backend.orders == []


async def test_body_of_a_megabyte_is_refused(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    async with http.put("/v1/workloads/big", data=b" " * 1_000_000) as response:
        assert response.status == 413
    assert backend.orders == []


async def test_health_is_503_until_ready(http: aiohttp.ClientSession) -> None:
    assert not (await get(http, "/v1/health", 503))["ready"]


async def test_config_and_explain_are_views(http: aiohttp.ClientSession) -> None:
    assert (await get(http, "/v1/config"))["neighbor"][0]["import"] == "all"
    assert await get(http, "/v1/interfaces") == {"lo": "", "eth0": "", "eth0.101": "blue"}
    assert (await get(http, "/v1/explain/10.0.0.1"))["agrees"]


async def test_explain_at_is_of_that_time_or_says_why_not(http: aiohttp.ClientSession) -> None:
    view = await get(http, "/v1/explain/10.0.0.1?at=1700000060.5")
    assert (view["at"], view["address"]) == (1700000060.5, "10.0.0.1")
    assert "begins later" in (await get(http, "/v1/explain/10.0.0.1?at=1", 404))["error"]
    for wrong in ("", "-1", "1e9", "now", "1.2.3", "inf", "9" * 30, "1.x"):
        assert "since the epoch" in (await get(http, f"/v1/explain/10.0.0.1?at={wrong}", 400))["hint"]


async def test_what_reads_tables_or_the_kernel_waits_for_a_daemon_that_starts(
    http: aiohttp.ClientSession, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.has_started.clear()
    monkeypatch.setattr("bgpd.api.server.START_PATIENCE_S", 0.05)
    for path in ("routes", "workloads", "workloads/pod1", "pages/routes", "mrt", "explain/10.0.0.1", "drain"):
        assert "still starting" in (await get(http, f"/v1/{path}", 503))["error"], path
    assert "still starting" in (await get(http, "/birdwatcher/protocols", 503))["error"]
    assert "neighbors" in await get(http, "/v1/overview")
    for order in (http.post("/v1/reload"), http.put("/v1/workloads/pod9", json={}), http.delete("/v1/workloads/pod9")):
        async with order as response:
            assert response.status == 503
    assert backend.orders == []
    monkeypatch.setattr("bgpd.api.server.START_PATIENCE_S", 5.0)
    asyncio.get_running_loop().call_later(0.05, backend.has_started.set)
    assert (await get(http, "/v1/explain/10.0.0.1"))["agrees"]
    assert await get(http, "/v1/routes")


async def test_events_are_listed_and_followed(http: aiohttp.ClientSession, backend: ScriptedBackend) -> None:
    set_up_logging(LogConfig(), backend.events, stream=open(os.devnull, "w"))  # noqa: SIM115, ASYNC230
    log.info("session.established", neighbor="leaf1", hold_time_s=9)
    log.info("session.established", neighbor="leaf2", hold_time_s=9)
    (event,) = await get(http, "/v1/events?limit=1")
    assert event["fields"]["neighbor"] == "leaf2"
    assert len(await get(http, "/v1/events?neighbor=leaf1")) == 1
    async with http.get("/v1/monitor") as response:
        log.warning("session.closed", neighbor="leaf1")
        line = await asyncio.wait_for(response.content.readline(), 5)
    assert b"session.closed" in line
    log_plainly()


async def test_monitors_that_have_gone_leave_their_places_though_nothing_happens(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LOOK_S", 0.02)
    for _ in range(LONG_ANSWERS):
        async with http.get("/v1/monitor") as response:
            assert response.status == 200
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/v1/monitor") as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.01)


async def test_a_monitor_from_a_later_event_than_there_is_waits_for_the_next(
    http: aiohttp.ClientSession, backend: ScriptedBackend
) -> None:
    """A number of an earlier run, or of nobody: the loop goes on."""
    set_up_logging(LogConfig(), backend.events, stream=open(os.devnull, "w"))  # noqa: SIM115, ASYNC230
    log.info("session.established", neighbor="leaf1")
    async with http.get("/v1/monitor?since=999999999") as response:
        log.warning("session.closed", neighbor="leaf1")
        line = await asyncio.wait_for(response.content.readline(), 5)
    assert b"session.closed" in line
    log_plainly()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "none"])
async def test_compressed_body_is_refused_unread(
    http: aiohttp.ClientSession, backend: ScriptedBackend, encoding: str
) -> None:
    headers = {"Content-Encoding": encoding}
    async with http.put("/v1/workloads/web-1", data=b"abc", headers=headers) as response:
        assert (response.status, (await response.json())["error"]) == (415, "the body of the request is compressed")
    assert backend.orders == []


async def test_long_answer_comes_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "bgpd.sock")
    server = ApiServer(ApiConfig(socket=path), ScriptedBackend(routes=5_000))
    await server.start()
    async with aiohttp.ClientSession("http://bgpd", connector=aiohttp.UnixConnector(path=path)) as http:
        assert len(await get(http, "/v1/routes")) == 5_000
    await server.stop()


def test_a_slice_ends_when_its_time_is_over_even_where_nothing_is_found() -> None:
    views = [route(1), None, route(2), None]
    parts = list(view_slices(iter(views), keep=lambda view: True, limit=0, slice_s=0))
    assert len(parts) == len(views) + 1
    assert [view["prefix"] for view in json.loads(b"".join(parts))] == ["10.0.0.1/32", "10.0.0.2/32"]


def test_an_empty_listing_is_an_empty_array() -> None:
    assert json.loads(b"".join(view_slices(iter(()), keep=lambda view: True, limit=0))) == []


async def test_socket_has_the_configured_mode_and_group(tmp_path: Path) -> None:
    path = str(tmp_path / "bgpd.sock")
    group = grp.getgrgid(os.getgid()).gr_name
    server = ApiServer(ApiConfig(socket=path, mode="0600", group=group), ScriptedBackend())
    await server.start()
    assert os.stat(path).st_mode & 0o777 == 0o600
    await server.stop()


async def test_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "bgpd.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server = ApiServer(ApiConfig(socket=path), ScriptedBackend())
    await server.start()
    with pytest.raises(SocketUnusable, match="already running"):
        await ApiServer(ApiConfig(socket=path), ScriptedBackend()).start()
    await server.stop()


async def test_unusable_places_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    for path, words in (("file", "is not a socket"), ("none/bgpd.sock", "create it")):
        with pytest.raises(SocketUnusable, match=words):
            await ApiServer(ApiConfig(socket=str(tmp_path / path)), ScriptedBackend()).start()
    assert (tmp_path / "file").read_text() == "keep me"


async def test_tcp_listener_serves_metrics_and_views_but_no_orders(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = ScriptedBackend()
    config = ApiConfig(socket=str(tmp_path / "bgpd.sock"), listen=f"127.0.0.1:{port}")
    server = ApiServer(config, backend)
    await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        async with http.get("/metrics") as response:
            assert "bgpd_routes 3" in await response.text()
        assert len(await get(http, "/v1/neighbors")) == 2
        async with http.post("/v1/reload") as response:
            assert response.status in (404, 405)
        async with http.put("/v1/workloads/x", json={}) as response:
            assert response.status == 405
    await server.stop()
    assert backend.orders == []
