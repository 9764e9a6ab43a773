"""The looking glass API has the shapes of birdwatcher, as alice-lg's parser takes them apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import msgspec
import pytest

from bgpd.api.backend import Listing, Rejected
from bgpd.api.server import ApiServer
from bgpd.config.schema import ApiConfig
from bgpd.model.views.queries import ViewQuery
from bgpd.model.views.routes import ExchangedRouteView
from tests.api.test_server import get
from tests.scripted_backend import LEAF1, ScriptedBackend, route

RECEIVED = [
    ExchangedRouteView(
        neighbor="leaf1",
        neighbor_address="10.0.1.2",
        family="ipv4-unicast",
        prefix=f"10.{number}.0.0/16",
        next_hop="10.0.1.2%eth0",
        origin="igp",
        as_path="65201 65299 {7,8}",
        med=5,
        communities=["65000:1", "no-export"],
        large_communities=["65000:1:2"],
        extended_communities=["rt:65000:9", "0102030405060708"],
        rejected="import: rule 2" if number == 9 else "",
        heard_at=1_700_000_000.0,
    )
    for number in range(1, 10)
]


class Backend(ScriptedBackend):
    @property
    def listings(self) -> Mapping[str, Listing]:
        def received(query: ViewQuery) -> Any:
            if query.neighbor not in ("leaf1", "leaf2"):
                raise Rejected(404, f'there is no neighbor "{query.neighbor}"')
            return iter([None, *(view for view in RECEIVED if view.neighbor == query.neighbor)])

        sent = ExchangedRouteView(neighbor="leaf1", family="ipv4-unicast", prefix="10.0.0.1/32", neighbor_address="")
        return {**super().listings, "received": received, "advertised": self._listing([sent])}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    path = str(tmp_path / "bgpd.sock")
    server = ApiServer(ApiConfig(socket=path), Backend())
    await server.start()
    async with aiohttp.ClientSession("http://bgpd", connector=aiohttp.UnixConnector(path=path)) as session:
        yield session
    await server.stop()


TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
DIGITS = {"type": "string", "pattern": r"^\d+$"}
SHORT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"}
HEAD = {
    "ttl": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    "api": {
        "type": "object",
        "required": ["Version", "result_from_cache", "cache_status"],
        "properties": {
            "Version": TEXT,
            "result_from_cache": {"type": "boolean"},
            "cache_status": {"type": "object", "required": ["cached_at"]},
        },
    },
}


def parts(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these fields, and maybe others."""
    return {"type": "object", "required": list(properties), "properties": properties}


PATHS = {"type": "array", "items": {"type": "array", "items": NUMBER}}
ROUTE = parts(
    {
        **dict.fromkeys(("network", "gateway", "interface", "from_protocol", "learnt_from"), TEXT),
        "age": SHORT,
        "metric": NUMBER,
        "primary": {"type": "boolean"},
        "type": {"type": "array", "items": TEXT},
        "bgp": parts(
            {
                **dict.fromkeys(("origin", "next_hop"), TEXT),
                **dict.fromkeys(("local_pref", "med"), DIGITS),
                "as_path": {"type": "array", "items": DIGITS},
                "communities": PATHS,
                "large_communities": PATHS,
                "ext_communities": {"type": "array", "items": {"type": "array", "minItems": 3, "maxItems": 3}},
            }
        ),
    }
)
NEIGHBOR = parts(
    {
        **dict.fromkeys(("state", "description", "neighbor_address", "last_error"), TEXT),
        "bird_protocol": {"const": "BGP"},
        "state_changed": SHORT,
        "neighbor_as": COUNT,
        "routes": parts(dict.fromkeys(("imported", "filtered", "exported"), COUNT)),
    }
)
ALICE = {
    "status": parts(
        {**HEAD, "status": parts(dict.fromkeys(("router_id", "message", "version", "last_reconfig"), TEXT))}
    ),
    "protocols/bgp": parts({**HEAD, "protocols": {"type": "object", "additionalProperties": NEIGHBOR}}),
    "protocols/short?uncached=true": parts(
        {**HEAD, "protocols": {"type": "object", "additionalProperties": parts({"state": TEXT, "since": SHORT})}}
    ),
    **{
        f"routes/{what}": parts({**HEAD, "routes": {"type": "array", "items": ROUTE}})
        for what in (
            *("protocol/leaf1", "filtered/leaf1", "noexport/leaf2", "export/leaf1"),
            *("table/master", "table/master/filtered"),
        )
    },
}
"""What alice-lg asks a source of the type single_table for, and what its parser takes for granted
(pkg/sources/birdwatcher of alice-lg 6): a field of another type ends it."""


@pytest.mark.parametrize("target", ALICE)
async def test_answer_is_what_alice_s_parser_takes_for_granted(http: aiohttp.ClientSession, target: str) -> None:
    answer = await get(http, f"/birdwatcher/{target}")
    jsonschema_rs.validator_for(ALICE[target]).validate(answer)


async def test_tables_have_a_path_of_each_neighbor(http: aiohttp.ClientSession) -> None:
    routes = (await get(http, "/birdwatcher/routes/table/master"))["routes"]
    first = [(one["from_protocol"], one["primary"]) for one in routes if one["network"] == "10.0.0.0/32"]
    assert first == [("leaf1", True), ("leaf2", False)]
    rejected = (await get(http, "/birdwatcher/routes/table/master/filtered"))["routes"]
    assert all(not one["primary"] for one in rejected)
    assert len(routes) + len(rejected) == sum(len(route(number).candidates) for number in range(3))


async def test_vrf_with_the_main_table_s_name_has_another_one(tmp_path: Path) -> None:
    asked: list[str | None] = []
    leaf = msgspec.structs.replace(LEAF1, vrf="master")

    class OfVrf(Backend):
        @property
        def listings(self) -> Mapping[str, Listing]:
            def routes(query: ViewQuery) -> Any:
                asked.append(query.vrf)
                return iter([])

            return {**super().listings, "routes": routes, "neighbors": self._listing([leaf])}

    path = str(tmp_path / "other.sock")
    server = ApiServer(ApiConfig(socket=path), OfVrf())
    await server.start()
    async with aiohttp.ClientSession("http://bgpd", connector=aiohttp.UnixConnector(path=path)) as session:
        name = (await get(session, "/birdwatcher/protocols/bgp"))["protocols"]["leaf1"]["table"]
        for table in ("master", name, "red"):
            await get(session, f"/birdwatcher/routes/table/{table}")
    await server.stop()
    assert asked == ["", "master", "red"]


def check_head(answer: dict[str, Any]) -> None:
    """What alice-lg needs of each answer."""
    assert isinstance(answer["api"]["Version"], str)
    assert answer["api"]["result_from_cache"] is False
    datetime.fromisoformat(answer["ttl"])
    datetime.fromisoformat(answer["api"]["cache_status"]["cached_at"]["date"])


async def test_status(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "/birdwatcher/status")
    check_head(answer)
    status = answer["status"]
    assert status["router_id"] == "10.255.1.1"
    assert status["message"] == "no neighbor is established"
    assert status["version"].startswith("bgpd ")
    for name in ("current_server", "last_reboot"):
        datetime.strptime(status[name], "%Y-%m-%d %H:%M:%S")
    datetime.strptime(status["last_reconfig"], "%a, %d %b %Y %H:%M:%S %z")


async def test_protocols_are_neighbors(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "/birdwatcher/protocols/bgp")
    check_head(answer)
    leaf1, leaf2 = answer["protocols"]["leaf1"], answer["protocols"]["leaf2"]
    assert (leaf1["state"], leaf1["neighbor_address"], leaf1["neighbor_as"]) == ("up", "10.0.1.2", 65201)
    assert leaf1["routes"] == {"imported": 3, "filtered": 0, "exported": 2}
    assert leaf1["last_error"] == ""
    assert leaf1["state_changed"] == "2023-11-14 22:13:20"
    assert (leaf2["state"], leaf2["bgp_state"], leaf2["neighbor_address"]) == ("start", "Active", "eth1")
    assert leaf2["last_error"].startswith("connection refused")
    short = await get(http, "/birdwatcher/protocols/short")
    assert short["protocols"]["leaf1"] == {
        "proto": "BGP", "table": "master", "state": "up", "since": "2023-11-14 22:13:20", "info": "established"
    }  # fmt: skip


async def test_received_and_filtered_routes(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "/birdwatcher/routes/protocol/leaf1")
    check_head(answer)
    assert [route["network"] for route in answer["routes"]] == [f"10.{number}.0.0/16" for number in range(1, 9)]
    route = answer["routes"][0]
    assert route["from_protocol"] == "leaf1"
    assert (route["gateway"], route["interface"], route["learnt_from"]) == ("10.0.1.2", "eth0", "10.0.1.2")
    assert route["age"] == "2023-11-14 22:13:20"
    assert route["bgp"] == {
        "origin": "IGP",
        "as_path": ["65201", "65299", "7", "8"],
        "next_hop": "10.0.1.2",
        "local_pref": "100",
        "med": "5",
        "communities": [[65000, 1], [65535, 65281]],
        "large_communities": [[65000, 1, 2]],
        "ext_communities": [["rt", "65000", "9"], ["generic", "0x01020304", "0x05060708"]],
    }
    filtered = await get(http, "/birdwatcher/routes/filtered/leaf1")
    assert [route["network"] for route in filtered["routes"]] == ["10.9.0.0/16"]
    assert (await get(http, "/birdwatcher/routes/protocol/leaf2"))["routes"] == []


async def test_routes_that_a_neighbor_was_not_sent(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "/birdwatcher/routes/noexport/leaf2")
    assert [route["network"] for route in answer["routes"]] == ["10.0.0.0/32", "10.0.0.2/32"]
    assert answer["routes"][0]["primary"] is True
    assert (await get(http, "/birdwatcher/routes/noexport/leaf1"))["routes"] == [], "its own are not told to it"
    exported = await get(http, "/birdwatcher/routes/export/leaf1")
    assert [(route["network"], route["from_protocol"]) for route in exported["routes"]] == [("10.0.0.1/32", "bgpd")]


async def test_pages(http: aiohttp.ClientSession) -> None:
    found = []
    for page in range(3):
        answer = await get(http, f"/birdwatcher/routes/protocol/leaf1?page={page}&page_size=3")
        assert answer["pagination"] == {"page": page, "page_size": 3, "has_more": page < 2}
        found += [route["network"] for route in answer["routes"]]
    assert found == [f"10.{number}.0.0/16" for number in range(1, 9)]
    assert (await get(http, "/birdwatcher/routes/protocol/leaf1?page=7&page_size=3"))["routes"] == []


async def test_errors_are_told_as_alice_reads_them(http: aiohttp.ClientSession) -> None:
    for target, status in (
        ("routes/protocol/leaf9", 404),
        ("routes/noexport/leaf9", 404),
        ("routes/protocol/leaf1?page=x", 400),
        ("routes/protocol/leaf1?page_size=-1", 400),
        ("symbols", 404),
    ):
        answer = await get(http, f"/birdwatcher/{target}", status)
        assert isinstance(answer["error"], str)
