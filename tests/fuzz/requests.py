"""Targets: what orchestrators, brokers and clients of the API say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from bgpd import page_keys, table_pages
from bgpd.api import view_filter
from bgpd.api.backend import Rejected
from bgpd.api.http import Headers, Request
from bgpd.api.server import _decoded, _filter
from bgpd.config.schema import Config
from bgpd.model.service import CheckType
from bgpd.model.utf8 import as_json
from bgpd.model.views.orders import DrainRequest, UpgradeRequest
from bgpd.model.views.queries import PageQuery, ViewQuery
from bgpd.model.workload import Workload
from bgpd.workload.feed import payload
from bgpd.workload.feed.payload import (
    PayloadRefused,
    claims_of,
    decode_service,
    decode_sync,
    decode_workload,
    is_publishable,
)
from bgpd.workload.service import dns
from tests.fuzz.target import Target
from tests.test_listings import Rig

VRFS = frozenset(("", "blue"))
_MOST_STEPS = 2000


def _put(kind: int, body: bytes) -> Any:
    match kind % 4:
        case 0:
            return decode_workload(body, id="vm7", vrfs=VRFS)
        case 1:
            return decode_service(body, name="web", vrfs=VRFS, commands=frozenset(("ask",)))
        case 2:
            return decode_sync(body)
    name, _, rest = body.partition(b"\n")
    return decode_workload(rest, id=name.decode(errors="replace"), vrfs=VRFS)


def run_payload(data: bytes) -> None:
    """A payload of MQTT or the API, of the kind that the first byte chooses: refused with problems that can be told, or
    taken, and then taken alike when it is written again."""
    if not data:
        return
    try:
        found = _put(data[0], data[1:])
    except PayloadRefused as refusal:
        as_json(refusal.problems[0])
        str(refusal).encode()
        return
    if data[0] % 4 == 3:
        return
    assert _put(data[0], msgspec.json.encode(found)) == found
    if isinstance(found, Workload):
        assert len(claims_of(found, source="mqtt", id="vm7")) == len(found.addresses)
    for check in (getattr(found, "check", None), getattr(found, "probe", None)):
        if check is not None and check.type is CheckType.DNS:
            dns.encode_query(check.query, check.query_type, 7)


def run_topic(data: bytes) -> None:
    """The last part of a topic."""
    name = data.decode(errors="replace")
    if is_publishable(name):
        name.encode()


@cache
def _rig() -> Rig:
    return Rig()


_BODIES = ((DrainRequest, "drain-request"), (UpgradeRequest, "upgrade-request"), (Config, "config"))
_NOBODY: Any = None
"""Nothing is sent to it."""
_KINDS = ("routes", "services", "neighbors", "fib")


def _asked(kind: int, text: str) -> None:
    query = Request(_NOBODY, "GET", f"/?{text}", Headers([])).query
    name, backend = _KINDS[kind >> 1 & 3], _rig().backend
    try:
        of_listing, of_page = (
            msgspec.convert(query, chosen, strict=False) if bool(kind & 1) is is_listing else None
            for chosen, is_listing in ((ViewQuery, True), (PageQuery, False))
        )
    except msgspec.ValidationError as error:
        str(error).encode(errors="replace")
        return
    if of_listing is not None:
        views, holds = backend.listings[name](of_listing), _filter(of_listing)
        for view, _ in zip(views, range(_MOST_STEPS)):
            if view is not None and holds(view):
                as_json(view)
    elif of_page is not None and name in backend.pagers:
        for step, _ in zip(backend.pagers[name](of_page).steps, range(_MOST_STEPS)):
            as_json(step)


def run_request(data: bytes) -> None:
    """A request of the API: the first byte chooses an order, whose body follows, or a listing or pages, whose query
    does. Whatever it is, it is answered or rejected."""
    if not data:
        return
    try:
        if data[0] >> 6 == 3:
            _decoded(data[1:], *_BODIES[data[0] % len(_BODIES)])
        else:
            _asked(data[0], data[1:].decode(errors="replace"))
    except Rejected as error:
        as_json((error.error, error.hint))


# What is right


def payload_seeds() -> Iterator[bytes]:
    """A workload and a service with all that they may have, and checks of each type."""
    workload = {
        "addresses": ["10.64.1.5", "2001:db8::5"],
        "interface": "pod1",
        "vrf": "blue",
        "mac": "02:00:00:00:00:05",
        "communities": ["65000:1"],
        "metadata": {"namespace": "default"},
    }
    yield b"\0" + msgspec.json.encode(workload)
    yield b"\3vm7\n" + msgspec.json.encode(workload)
    checks: tuple[dict[str, object], ...] = (
        {"type": "tcp", "port": 80},
        {"type": "http", "port": 80, "path": "/health", "host": "web", "status": [200, 204]},
        {"type": "dns", "query": "www.example.org", "query_type": "AAAA"},
        {"type": "exec", "command": "ask", "interval_s": 5, "timeout_s": 2, "rise": 2, "fall": 3},
    )
    for check in checks:
        backends = [{"id": "a", "addresses": ["10.64.1.5"], "weight": 3}, {"id": "b", "addresses": ["10.64.1.6"]}]
        service = {"addresses": ["10.64.9.1"], "backends": backends, "check": check, "last_resort": "keep"}
        yield b"\1" + msgspec.json.encode(service)
        yield b"\0" + msgspec.json.encode({**workload, "probe": check})
    yield b"\2" + msgspec.json.encode({"generation": 7, "count": 2, "services": 1, "epoch": "a"})


def request_seeds() -> Iterator[bytes]:
    """Queries of listings, of pages, and orders."""
    queries = (
        "",
        "prefix=10.0.0.0/8&longer_prefixes=true&family=ipv4-unicast&limit=3",
        "neighbor=leaf1&vrf=blue&state=established",
        "sort=prefix&page=2&size=10&search=leaf",
        "after=10.0.0.0/24&before=x&limit=5",
    )
    for query in queries:
        for kind in range(8):
            yield bytes((kind,)) + query.encode()
    for number, body in enumerate(
        (b'{"reason":"x","all":true,"for_s":60}', b'{"force":true}', b'{"router":{"asn":1}}')
    ):
        yield bytes((192 + number,)) + body


TARGETS = {
    "payload": Target(run_payload, (payload,), payload_seeds),
    "topic": Target(run_topic, (is_publishable,)),
    "request": Target(run_request, (view_filter, table_pages, page_keys), request_seeds),
}
