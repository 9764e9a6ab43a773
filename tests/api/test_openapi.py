"""The description of the API: it has each request that the server routes, and schemathesis tries each by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from bgpd.api.access import Access
from bgpd.api.backend import Answer, Listing, Rejected
from bgpd.api.http_connection import HttpServer
from bgpd.api.openapi import LISTINGS, document, operations
from bgpd.api.server import make_app
from bgpd.model.reports import Problem, WorkloadReport
from bgpd.model.views.queries import ViewQuery
from bgpd.model.workload import Workload
from bgpd.workload.feed.api import ErrorReport
from tests.scripted_backend import ScriptedBackend
from tests.test_documents import backend as daemon_backend

STREAMS = ("/v1/live", "/v1/monitor")
"""They end when the client goes."""


class Taking:
    """Objects that take any payload of their type."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self._kind = kind

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        try:
            msgspec.json.decode(body, type=self._kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return 400, ErrorReport(errors=[Problem("", str(error), "see the schema")])
        return 202, WorkloadReport(id=id, state="pending")

    async def delete(self, id: str, *, who: str) -> Answer:
        return 404, ErrorReport(errors=[])

    def get(self, id: str) -> Answer:
        return 200, WorkloadReport(id=id, state="pending")


class Backend(ScriptedBackend):
    """With all listings, empty ones where it has none, and workloads that can be put."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = {"workloads": Taking(Workload)}

    @property
    def listings(self) -> Mapping[str, Listing]:
        def none(query: ViewQuery) -> Any:
            if query.neighbor == "nobody":
                raise Rejected(404, "there is no neighbor nobody")
            return iter([])

        own = super().listings
        return {name: own.get(name, none) for name in LISTINGS}


def routed(*, over_tcp: bool) -> set[tuple[str, str]]:
    access = Access((), token=b"") if over_tcp else None
    found = set()
    for route in make_app(daemon_backend(), access=access).routes:
        path = route.path
        if path == "/" or path.startswith("/page/"):
            continue
        kinds = [path]
        if path == "/v1/{kind}":
            kinds = [f"/v1/{name}" for name in LISTINGS]
        elif path == "/v1/{kind}/{id}":
            kinds = ["/v1/workloads/{id}", "/v1/services/{id}"]
        found |= {(route.methods[0].lower(), kind) for kind in kinds}
    return found


@pytest.mark.parametrize("over_tcp", [False, True])
def test_each_request_that_is_answered_is_described(over_tcp: bool) -> None:
    assert {(one.method, one.path) for one in operations(over_tcp=over_tcp)} == routed(over_tcp=over_tcp)


def test_listings_are_those_of_the_daemon() -> None:
    assert LISTINGS.keys() == daemon_backend().listings.keys()


class Serving(threading.Thread):
    """All requests over TCP, in a loop of its own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self.start()
        assert self._ready.wait(20)

    def run(self) -> None:
        async def serve() -> None:
            http = HttpServer(make_app(Backend()))
            server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
            self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
            self._ended = asyncio.Event()
            self._ready.set()
            await self._ended.wait()
            server.close()
            await http.stop()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(serve())

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(20)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    serving = Serving()
    yield serving.url
    serving.end()


CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
TRIED = [(one.method, one.path) for one in operations(over_tcp=False) if one.path not in STREAMS]


@pytest.mark.parametrize(("method", "path"), TRIED, ids=lambda text: str(text))
def test_answers_are_as_described(url: str, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(document(over_tcp=False))
    schema.config.update(base_url=url)
    operation = schema[path][method.upper()]

    @settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def tried(case: Any) -> None:
        response = case.call(timeout=20)
        assert response.status_code != 500
        case.validate_response(response, checks=CHECKS)

    tried()
