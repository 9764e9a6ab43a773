"""Payloads of orchestrators: what is taken, and the words for what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.model.service import Service
from bgpd.model.workload import Sync, Workload, WorkloadKind
from bgpd.workload.feed import payload
from bgpd.workload.feed.payload import (
    PayloadRefused,
    claims_of,
    decode_service,
    decode_sync,
    decode_workload,
)

VRFS = frozenset({"", "blue"})


def body(**fields: Any) -> bytes:
    return json.dumps({"addresses": ["10.64.1.5"], "interface": "tap0"} | fields).encode()


def problems(said: bytes, id: str = "web-1") -> list[tuple[str, str, str]]:
    with pytest.raises(PayloadRefused) as refused:
        decode_workload(said, id=id, vrfs=VRFS)
    return [(p.path, p.wrong, p.right) for p in refused.value.problems]


def service_problems(commands: frozenset[str] | None = None, **fields: Any) -> list[tuple[str, str]]:
    payload = json.dumps({"addresses": ["10.64.9.1"]} | fields).encode()
    with pytest.raises(PayloadRefused) as refused:
        decode_service(payload, name="web", vrfs=VRFS, commands=commands)
    return [(p.path, p.wrong) for p in refused.value.problems]


def test_full_workload_makes_one_claim_per_address() -> None:
    payload = body(
        id="web-1",
        kind="vm",
        addresses=["10.64.1.5", "10.64.8.0/28", "2001:db8::5"],
        mac="02:00:00:00:00:01",
        vrf="blue",
        sticky=True,
        exception=True,
    )
    workload = decode_workload(payload, id="web-1", vrfs=VRFS)
    claims = claims_of(workload, source="mqtt", id="web-1")
    assert workload.kind is WorkloadKind.VM
    assert [claim.key[0] for claim in claims] == [32, 28, 128]
    assert {(c.interface, c.vrf, c.mac, c.sticky, c.exception, c.manage_route) for c in claims} == {
        ("tap0", "blue", bytes.fromhex("020000000001"), True, True, True)
    }


def test_workload_without_an_interface_is_only_followed() -> None:
    (claim,) = claims_of(decode_workload(body(interface=""), id="a", vrfs=VRFS), source="mqtt", id="a")
    assert not claim.manage_route


@pytest.mark.parametrize(
    ("payload", "path", "wrong", "right"),
    [
        (b"", "", "not JSON", "a JSON object with id, kind, addresses"),
        (b"\xff", "", "not JSON", "a JSON object"),
        (b"[" * 60_000, "", "", "a JSON object"),
        (b"5", "", "Expected", "a JSON object"),
        (body(interfaces="x"), "interfaces", "unknown field", 'did you mean "interface"?'),
        (body(zzz=1), "zzz", "unknown field", "known are id, kind"),
        (b"{}", "addresses", "is missing", "required are addresses"),
        (body(addresses=[]), "addresses", "is empty", "Addresses or prefixes"),
        (body(addresses=["10.0.0.1/8"]), "addresses[0]", "host bits", '"10.0.0.1" for the address or "10.0.0.0/8"'),
        (body(addresses=["host"]), "addresses[0]", "no IPv4 or IPv6", 'such as "10.64.1.5"'),
        (body(addresses=["0.0.0.0/0"]), "addresses[0]", "default route", "unicast"),
        (body(addresses=["0.0.0.0"]), "addresses[0]", "this network", "unicast"),
        (body(addresses=["255.255.255.255"]), "addresses[0]", "reserved", "unicast"),
        (body(addresses=["ff02::1"]), "addresses[0]", "multicast", "unicast"),
        (body(addresses=["128.0.0.0/1"]), "addresses[0]", "shorter than /8", "unicast"),
        (body(addresses=["8000::/1"]), "addresses[0]", "shorter than /16", "unicast"),
        (body(addresses=["::1"]), "addresses[0]", "loopback", "unicast"),
        (body(addresses=["127.0.0.0/8"]), "addresses[0]", "loopback", "unicast"),
        (body(addresses=["169.254.0.5"]), "addresses[0]", "link-local", "unicast"),
        (body(addresses=["fe80::/10"]), "addresses[0]", "link-local", "unicast"),
        (body(addresses=["fe80::1%eth0"]), "addresses[0]", "scope", ""),
        (body(vrf="red"), "vrf", 'no VRF "red"', "configured: blue"),
        (body(kind="container"), "kind", "container", "one of pod, vm, bare-metal"),
        (body(mac="02:00:00:00:00"), "mac", "no MAC", "six bytes"),
        (body(mac="01:00:5e:00:00:01"), "mac", "multicast", "six bytes"),
        (body(mac="00:00:00:00:00:00"), "mac", "all zero", "six bytes"),
        (body(interface="a/b"), "interface", "regex", "interface"),
        (body(interface=".."), "interface", "no interface name", "tap0"),
        (body(sticky="yes"), "sticky", "Expected", ""),
        (body(id="other"), "id", 'is not the "web-1"', "leave it out"),
    ],
)
def test_error_tells_path_what_is_wrong_and_what_would_be_right(
    payload: bytes, path: str, wrong: str, right: str
) -> None:
    (problem,) = problems(payload)
    assert problem[0] == path
    assert wrong in problem[1]
    assert right in problem[2]


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = problems(body(addresses=["10.0.0.1", "10.0.0.1/32", "::1"], vrf="red", mac="x"))
    assert [path for path, _, _ in found] == ["vrf", "addresses[1]", "addresses[2]", "mac"]


@pytest.mark.parametrize("id", ["", "a b", "x" * 254, "ä", ".hidden", "a\n"])
def test_name_that_no_topic_may_have_is_refused(id: str) -> None:
    assert problems(body(), id=id)[0][0] == "id"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("::ffff:10.0.1.2", "IPv4-mapped"),
        ("::ffff:10.0.1.0/120", "IPv4-mapped"),
        ("::10.0.1.2", "IPv4-compatible"),
        ("0.1.2.3", "this network"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
    ],
)
def test_martian_is_no_workloads_nor_services_address(address: str, why: str) -> None:
    assert f"({why})" in problems(body(addresses=[address]))[0][1]


def test_so_many_problems_are_told_and_then_no_more_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    network = payload._network

    def counted(text: str) -> object:
        nonlocal looked
        looked += 1
        return network(text)

    monkeypatch.setattr(payload, "_network", counted)
    backends = [{"id": f"b{number}", "addresses": ["10"] * 8} for number in range(700)]
    assert len(service_problems(backends=backends)) == payload.MAX_PROBLEMS + 1
    assert looked <= 2 * payload.MAX_PROBLEMS


def test_a_problem_repeats_no_more_than_a_few_characters_of_the_payload() -> None:
    (problem,) = problems(b'{"addresses": ["10.0.0.1"], "' + b"x" * 60_000 + b'": 1}')
    assert max(map(len, problem)) < 310


def test_nothing_is_read_of_ten_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the payload was read")

    payload = b'{"addresses": [' + b" " * 10_000_000
    monkeypatch.setattr("msgspec.json.decode", read)
    monkeypatch.setattr("json.loads", read)
    (problem,) = problems(payload)
    assert problem[1] == "the payload has 10000015 bytes"


def test_service_is_decoded() -> None:
    payload = {
        "addresses": ["10.64.9.1", "2001:db8::1"],
        "min_healthy": 2,
        "backends": [{"id": "a", "addresses": ["10.64.1.5"], "weight": 3}],
        "check": {"type": "http", "port": 80, "path": "/ready", "interval_s": 1, "timeout_s": 0.5},
    }
    service = decode_service(json.dumps(payload).encode(), name="web", vrfs=VRFS)
    assert isinstance(service, Service)
    assert service.backends[0].weight == 3


BACKEND = {"id": "a", "addresses": ["10.64.1.5"]}


@pytest.mark.parametrize(
    ("fields", "path", "wrong"),
    [
        ({"addresses": ["10.64.9.0/24"]}, "addresses[0]", "is a prefix"),
        ({"backends": [BACKEND, BACKEND]}, "backends[1].id", "same as backends[0]"),
        ({"backends": [{"id": "a"}]}, "backends[0].addresses", "is missing"),
        ({"backends": [BACKEND | {"wieght": 2}]}, "backends[0].wieght", "unknown field"),
        ({"backends": [BACKEND | {"weight": 0}]}, "backends[0].weight", ">= 1"),
        ({"check": {"type": "tcp"}}, "check.port", "needs a port"),
        ({"check": {"type": "ping"}}, "check.type", "ping"),
        ({"check": {"type": "tcp", "port": 1, "interval_s": 1, "timeout_s": 2}}, "check.timeout_s", "longer"),
        ({"check": {"type": "exec", "command": "rm"}}, "check.command", "not in the command directory"),
        ({"check": {"type": "exec", "command": "../rm"}}, "check.command", "regex"),
        ({"check": {"type": "http", "port": 80, "path": "/a b"}}, "check.path", "regex"),
        ({"check": {"type": "http", "port": 80, "status": []}}, "check.status", "is empty"),
        ({"check": {"type": "dns"}}, "check.query", "is missing"),
        ({"probe": {"type": "dns", "query": "a..b"}}, "probe.query", '"a..b" is no name'),
        ({"probe": {"type": "dns", "query": "a" * 64}}, "probe.query", "is no name"),
        ({"probe": {"type": "dns", "query": "a b"}}, "probe.query", "regex"),
        ({"probe": {"type": "dns", "query": "a", "query_type": "ANY"}}, "probe.query_type", "ANY"),
        ({"probe": {"type": "http"}}, "probe.port", "a http probe needs a port"),
        ({"probe": {"type": "http", "port": 80, "host": "a\r\nb"}}, "probe.host", "regex"),
        ({"probe": {"type": "https", "port": 443, "host": "a..b"}}, "probe.host", '"a..b" is no name'),
        ({"check": {"type": "https", "port": 443, "host": "."}}, "check.host", '"." is no name'),
        ({"check": {"type": "https", "port": 443, "host": "a" * 64}}, "check.host", "is no name"),
        ({"probe": {"type": "push"}}, "probe.type", "push is no way"),
        ({"probe": {"type": "exec", "command": "rm"}}, "probe.command", "not in the command directory"),
        ({"probe": {"type": "tcp", "prot": 80}}, "probe.prot", "unknown field"),
        ({"mode": "fast"}, "mode", "fast"),
        ({"weight_from": "pods"}, "weight_from", "pods"),
        ({"last_resort": "stay"}, "last_resort", "stay"),
        ({"slow_start_s": -1}, "slow_start_s", ">= 0"),
        ({"slow_start_s": 3601}, "slow_start_s", "<= 3600"),
        ({"min_healthy": 0}, "min_healthy", ">= 1"),
    ],
)
def test_wrong_service_is_refused_with_its_path(fields: dict[str, Any], path: str, wrong: str) -> None:
    (problem,) = service_problems(**fields)
    assert problem[0] == path
    assert wrong in problem[1]


def test_exec_check_runs_only_what_the_directory_has() -> None:
    payload = json.dumps({"addresses": ["10.64.9.1"], "check": {"type": "exec", "command": "ok"}}).encode()
    assert decode_service(payload, name="web", vrfs=VRFS, commands={"ok"}).check
    assert service_problems(frozenset({"other"}), check={"type": "exec", "command": "ok"})


def test_sync_is_strict() -> None:
    assert decode_sync(b'{"generation": 3, "count": 0}') == Sync(generation=3, count=0)
    for wrong in (b"{}", b'{"generation": -1, "count": 0}', b'{"generation": "1", "count": 0}', b'{"generation": 1}'):
        with pytest.raises(PayloadRefused):
            decode_sync(wrong)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {"addresses": st.lists(st.text(max_size=20) | st.ip_addresses().map(str), max_size=3)},
            optional={"vrf": st.text(max_size=5), "mac": st.text(max_size=17), "id": st.text(max_size=5)},
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_bytes_are_taken_or_refused_with_a_problem(payload: bytes) -> None:
    for decode in (
        lambda: decode_workload(payload, id="a", vrfs=VRFS),
        lambda: decode_service(payload, name="a", vrfs=VRFS),
        lambda: decode_sync(payload),
    ):
        try:
            decode()
        except PayloadRefused as refusal:
            assert refusal.problems  # noqa: PT017


def patterns_in(schema: Any) -> Iterator[str]:
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for one in inner:
        yield from patterns_in(one)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        yield schema["pattern"]


def test_no_text_ends_with_a_line_feed() -> None:
    """A "$" in a pattern would take one before the end: of a path it would end the line of an HTTP request."""
    found = [one for kind in (Workload, Service, Sync) for one in patterns_in(msgspec.json.schema(kind))]
    assert len(found) > 5
    assert all(one.endswith(r"(?!\n)$") for one in found)
    assert problems(body(interface="tap0\n"))
    for check in ({"type": "http", "port": 80, "path": "/x\n"}, {"type": "http", "port": 80, "host": "x\n"}):
        ((path, _),) = service_problems(check=check)
        assert path in ("check.path", "check.host")
    assert service_problems(backends=[{"id": "a\n", "addresses": ["10.64.1.5"]}])
