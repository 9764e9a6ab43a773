"""The routes of an earlier time, to a prefix and what is inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.history.reading import NotKnown
from bgpd.history.tables import AskedRoutes, routes
from bgpd.model.views.explained import PastRoutesView
from bgpd.model.views.queries import PastQuery
from tests.daemon.wire_peer import update, withdrawal
from tests.history.rig import Recorded

OUTER, INNER, OTHER = "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16"


def shown(path: Path, prefix: str, at: float, **fields: object) -> PastRoutesView:
    return routes(path, AskedRoutes(query=PastQuery(prefix=prefix, at=at, **fields)))  # type: ignore[arg-type]


def prefixes(view: PastRoutesView) -> list[str]:
    return [one.prefix for one in view.routes]


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, float]:
    """All three are announced, at the time that is given; ten seconds later two are withdrawn."""
    history = Recorded(tmp_path)
    history.up("leaf1")
    history.now += 1
    history.hear("leaf1", update((OTHER, INNER, OUTER), asn=65201, next_hop="10.0.1.2"))
    history.write()
    at = history.now
    history.now += 10
    history.hear("leaf1", withdrawal(INNER, OTHER))
    history.write()
    return tmp_path, at


def test_routes_are_those_of_then_in_order(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    then = shown(path, "10.0.0.0/8", at + 1, longer_prefixes=True)
    assert prefixes(then) == [OUTER, INNER, OTHER]
    assert (then.total, then.remark) == (3, "")
    assert then.known_from <= at
    assert [one.source for one in then.routes[0].candidates] == ["leaf1"]
    assert prefixes(shown(path, "10.0.0.0/8", at + 11, longer_prefixes=True)) == [OUTER]


def test_prefix_alone_and_what_covers_an_address(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    assert prefixes(shown(path, OUTER, at + 1)) == [OUTER]
    assert prefixes(shown(path, "10.1.2.3", at + 1)) == [OUTER, INNER]
    assert prefixes(shown(path, "10.9.9.9", at + 1)) == []


def test_the_first_ones_are_shown_and_all_are_counted(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    view = shown(path, "0.0.0.0/0", at + 1, longer_prefixes=True, limit=2)
    assert (len(view.routes), view.total) == (2, 3)


def test_what_is_not_known_says_why(recorded: tuple[Path, float], monkeypatch: pytest.MonkeyPatch) -> None:
    path, at = recorded
    with pytest.raises(NotKnown, match="the history of routes begins at"):
        shown(path, OUTER, at - 3600)
    with pytest.raises(NotKnown, match=r'"10\.1\.0\.0/99" is no prefix'):
        shown(path, "10.1.0.0/99", at)
    monkeypatch.setattr("bgpd.history.prefixes.MOST_KEYS", 2)
    with pytest.raises(NotKnown, match=r"prefixes are inside 10\.0\.0\.0/8"):
        shown(path, "10.0.0.0/8", at + 1, longer_prefixes=True)
