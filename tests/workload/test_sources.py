"""A source of claims is one file with its `KIND`: everything else follows from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bgpd.api.view_filter import view_filter
from bgpd.config.schema import Config, RouterConfig
from bgpd.model.views.queries import ViewQuery
from bgpd.model.workload import Claim
from bgpd.workload import sources
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts, feeds, kinds
from bgpd.workload.workloads import Workloads
from tests.workload.fixtures import V4, Rig, claim, key

CONFIG = Config(router=RouterConfig(asn=65203, router_id="10.255.1.1"))
AFTERWARDS = {Restart.REPLAYED: "read again", Restart.SAVED: "saved in `[state]`"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


class Toy(ClaimSource):
    """Claims one address, and has a complaint."""

    name = "toy"

    def __init__(self, parts: SourceParts) -> None:
        self._parts = parts

    async def restore(self) -> None:
        self.claim("10.64.1.5/32")
        self._parts.first_state.heard(self.name)

    def claim(self, prefix: str, interface: str = "pod1") -> None:
        one = Claim(source=self.name, id="a", family=V4, key=key(prefix), interface=interface)
        self._parts.claims.claim(self.name, "a", (one,))

    def errors(self) -> list[str]:
        return ["the toy is broken"]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One file and one entry."""
    file = ModuleType("tests.workload.toy_source")
    file.KIND = SourceKind(  # type: ignore[attr-defined]
        name="toy", what="a test", precedence=1, restart=Restart.REPLAYED, rank_at_start=1, make=Toy
    )
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setattr(sources, "_FILES", (*sources._FILES, file.__name__))
    kinds.cache_clear()
    feeds.cache_clear()
    yield
    monkeypatch.undo()
    kinds.cache_clear()
    feeds.cache_clear()


def made(rig: Rig) -> Workloads:
    return Workloads(
        CONFIG.workloads,
        owner=rig,
        kernel=rig,
        endpoints=rig,
        sessions=rig,
        guests=rig,
        host=rig.host,
        routes=rig.routes,
        hostname="node1",
    )


async def test_a_source_is_one_file_and_one_entry(toy: None) -> None:
    rig = Rig()
    rig.link("pod1")
    rig.link("pod2")
    workloads = made(rig)
    claims = workloads.claims
    assert workloads.errors() == ["the toy is broken"]
    workloads.kernel.replayed()
    await workloads.start()
    workloads.table.flush(1.0)
    workloads.report()
    (view,) = claims.views()
    assert (view.source, view.id, view.state, view.announced) == ("toy", "a", "announced", True)
    assert rig.synchronised == 1
    assert dict(claims.state_counts()) == {("toy", "announced"): 1}
    assert view_filter(ViewQuery(source="toy"))(view)
    assert not view_filter(ViewQuery(source="static"))(view)

    claims.claim("api", "b", (claim("10.64.1.5/32", "pod2", id="b", source="api"),))
    workloads.table.flush(2.0)
    assert [(view.source, view.state, view.announced) for view in claims.views()] == [
        ("toy", "conflict", True),
        ("api", "conflict", False),
    ]


async def test_readiness_waits_for_each_source(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(self: Toy) -> None:
        """Its first state does not come."""

    monkeypatch.setattr(Toy, "restore", silent)
    rig = Rig()
    workloads = made(rig)
    workloads.kernel.replayed()
    await workloads.start()
    workloads.report()
    assert rig.synchronised == 0
    assert "toy" in workloads.awaited


def test_word_that_no_source_has_is_refused() -> None:
    with pytest.raises(ValueError, match='"toy" is no source; one of: static, kernel'):
        view_filter(ViewQuery(source="toy"))


def test_document_lists_each_source_as_it_is() -> None:
    text = DOCUMENT.read_text()
    order = {0: "first", 1: "in between", 2: "last"}
    for kind in kinds().values():
        afterwards = AFTERWARDS.get(kind.restart, "made again of its backends")
        assert f"| `{kind.name}` | {kind.what} | {afterwards} | {order[kind.precedence]} |\n" in text


def test_ranks_at_the_start_are_between_holder_and_those_that_wait() -> None:
    for kind in kinds().values():
        assert (kind.rank_at_start == 0) == (kind.restart is not Restart.REPLAYED)
        assert 0 <= kind.rank_at_start <= 2
