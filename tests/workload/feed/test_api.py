"""What the local API answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.api.backend import Objects
from bgpd.model.reports import WorkloadReport
from bgpd.model.service import ServiceView
from bgpd.workload.feed.api import Answer, ErrorReport, ServiceObjects, WorkloadObjects
from tests.workload.broker import Node

KEPT = "it is kept, and counts when there is one again"


def body(address: str = "10.64.1.5", **fields: Any) -> bytes:
    return json.dumps({"addresses": [address], "interface": "pod1"} | fields).encode()


class ApiNode(Node):
    async def put(self, id: str, payload: bytes, timeout_s: float = 2.0) -> tuple[int, WorkloadReport]:
        answer = await self.api.put_workload(id, payload, who="root", timeout_s=timeout_s)
        assert isinstance(answer.body, WorkloadReport)
        return answer.status, answer.body


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ApiNode]:
    made = ApiNode(tmp_path, mqtt=False)
    await made.start()
    yield made
    await made.stop()


def errors(answer: Answer) -> list[str]:
    assert isinstance(answer.body, ErrorReport)
    return [str(problem) for problem in answer.body.errors]


async def test_put_answers_when_announced_and_is_idempotent(node: ApiNode) -> None:
    for _ in range(2):
        status, report = await node.put("a", body())
        assert (status, report.state) == (200, "announced")
        assert set(node.announced) == {"10.64.1.5/32"}
    status, report = await node.put("a", body("10.64.1.6"))
    assert (status, set(node.announced)) == (200, {"10.64.1.6/32"})


async def test_put_that_is_not_announced_in_time_says_why(node: ApiNode) -> None:
    status, report = await node.put("a", body(interface="pod9"), timeout_s=0.05)
    assert (status, report.state, report.reason) == (202, "pending", "interface pod9 does not exist")


async def test_put_of_anothers_address_is_a_conflict_and_the_first_stays(node: ApiNode) -> None:
    await node.put("a", body())
    status, report = await node.put("b", body(interface="pod2"))
    assert (status, report.state) == (409, "conflict")
    assert node.kernel["10.64.1.5/32"][0].interface == "pod1"
    status, report = await node.put("a", body())
    assert (status, report.state) == (200, "conflict")


async def test_waiting_put_is_answered_at_once_when_the_route_is_acknowledged(node: ApiNode) -> None:
    waiting = asyncio.create_task(node.put("a", body(interface="pod9"), timeout_s=5))
    await asyncio.sleep(0.05)
    await node.put("a", body())
    status, _ = await asyncio.wait_for(waiting, 1)
    assert status == 200


@pytest.mark.parametrize(
    ("payload", "status", "wrong"),
    [
        (b"{", 400, "not JSON"),
        (b"x" * 70_000, 413, "the payload has 70000 bytes"),
        (body(vrf="red"), 400, 'no VRF "red"'),
        (body("10.64.1.5/24"), 400, "host bits"),
        (body("fe80::1"), 400, "link-local"),
        (body(adresses=[]), 400, "unknown field"),
        (b'{"addresses": []}', 400, "is empty"),
        (body(id="b"), 400, "is not the"),
    ],
)
async def test_wrong_payload_is_refused_and_the_former_claim_stays(
    node: ApiNode, payload: bytes, status: int, wrong: str
) -> None:
    await node.put("a", body())
    answer = await node.api.put_workload("a", payload, who="root")
    assert answer.status == status
    assert wrong in errors(answer)[0]
    assert set(node.announced) == {"10.64.1.5/32"}


async def test_delete_withdraws_and_unknown_ids_are_told(node: ApiNode) -> None:
    await node.put("a", body())
    assert [report.id for report in node.api.workloads()] == ["a"]
    assert node.api.workload("a").status == 200
    assert (await node.api.delete_workload("a", who="root")).status == 200
    assert node.announced == {}
    assert (await node.api.delete_workload("a", who="root")).status == 404
    assert node.api.workload("a").status == 404


async def test_service_is_put_and_deleted(node: ApiNode) -> None:
    await node.put("a", body())
    service: dict[str, Any] = {"addresses": ["10.64.9.1"], "backends": [{"id": "a", "addresses": ["10.64.1.5"]}]}
    answer = await node.api.put_service("web", json.dumps(service).encode(), who="root")
    assert isinstance(answer.body, ServiceView)
    assert (answer.status, answer.body.announced) == (200, True)
    assert "10.64.9.1/32" in node.announced
    service["min_healthy"] = 2
    answer = await node.api.put_service("web", json.dumps(service).encode(), who="root", timeout_s=0.05)
    assert answer.status == 202
    assert "1 of at least 2" in answer.body.reason  # type: ignore[union-attr]
    assert (await node.api.put_service("web", b"[]", who="root")).status == 400
    assert (await node.api.delete_service("web", who="root")).status == 200
    assert (await node.api.delete_service("web", who="root")).status == 404
    assert node.api.service("web").status == 404
    assert set(node.announced) == {"10.64.1.5/32"}


async def test_service_of_a_vrf_that_is_gone_keeps_its_name_says_so_and_can_be_deleted(node: ApiNode) -> None:
    api = node.api
    api.feed.vrfs = {"", "blue"}
    service = b'{"addresses": ["10.64.9.1"], "vrf": "blue", "mode": "announce-only"}'
    assert (await api.put_service("web", service, who="root", timeout_s=0.05)).status == 202
    api.feed.vrfs = {""}
    list(api.feed.follow_vrfs())
    answer = api.service("web")
    assert (answer.status, errors(answer)) == (404, [f'vrf: there is no VRF "blue" any more; {KEPT}'])
    assert node.workloads.services.owner("web") == "api", "no other source may have it: it may be back"
    assert (await api.delete_service("web", who="root")).status == 200
    assert node.workloads.services.owner("web") == ""
    assert (api.service("web").status, api.feed.services) == (404, {})


async def test_objects_of_the_http_server_lead_here(node: ApiNode) -> None:
    objects: dict[str, Objects] = {"workloads": WorkloadObjects(node.api), "services": ServiceObjects(node.api)}
    for kind, payload in (
        ("workloads", body()),
        ("services", b'{"addresses": ["10.64.9.1"], "mode": "announce-only"}'),
    ):
        status, _ = await objects[kind].put("a", payload, who="root", timeout_s=0.2)
        assert status == (200 if kind == "workloads" else 202)
        assert objects[kind].get("a")[0] == 200
        assert (await objects[kind].delete("a", who="root"))[0] == 200
        assert objects[kind].get("a")[0] == 404


async def test_what_the_api_put_outlives_a_restart(tmp_path: Path) -> None:
    for restart in range(2):
        node = ApiNode(tmp_path, mqtt=False)
        await node.start()
        if restart:
            await asyncio.sleep(0.05)
            assert (set(node.announced), node.synchronised) == ({"10.64.1.5/32"}, 1)
        else:
            await node.put("a", body())
        await node.stop()
