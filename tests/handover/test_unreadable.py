"""What another process has left is nothing that this one can read: it costs what a restart costs, and no more.

msgspec raises other errors for a text that is no UTF-8, and for what is nested too deeply, than for another form.
"""

from __future__ import annotations

import msgspec
import pytest

from bgpd.handover import snapshot
from bgpd.inheritance import SNAPSHOT, read
from bgpd.model.service import CheckType, HealthCheck
from bgpd.model.unreadable import UNREADABLE
from bgpd.rib.saved import SavedRib
from bgpd.speaker import left_sessions
from bgpd.speaker.saved import SavedSpeaker
from bgpd.workload.service import saved_standing
from bgpd.workload.service.saved_health import SavedCheck, SavedHealth
from tests.handover.sections import SECTIONS

NO_UTF8 = b"\xa1\xff"
DEEP = b"\x95\x90\x90\x90\x90" * 3000
"""Bases of bases."""


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"\x01", str),
        (NO_UTF8, str),
        (b"\x81" + NO_UTF8 + b"\xc0", dict[str, None]),
        (b"\x95" + b"\x90" * 4 + DEEP, SavedRib),
    ],
)
def test_whatever_is_wrong_is_unreadable(data: bytes, form: type[object]) -> None:
    with pytest.raises(UNREADABLE):
        msgspec.msgpack.decode(data, type=form)


@pytest.mark.parametrize("wrong", [b"\x01", b"\x81" + NO_UTF8 + b"\xc0"])
@pytest.mark.parametrize("name", ["daemon", "speaker", "feeds"])
def test_sections_that_all_depends_on_leave_nothing_and_say_why(name: str, wrong: bytes) -> None:
    found = read({SNAPSHOT: snapshot.write({**SECTIONS, name: wrong})})
    assert found.daemon is None
    assert found.problem


@pytest.mark.parametrize("wrong", [b"\x01", DEEP, b"\x95\x91\x96" + NO_UTF8])
def test_other_sections_cost_themselves(wrong: bytes) -> None:
    others = {"kernel": b"\x81" + NO_UTF8 + b"\xc0", "moves": wrong, "gateways": wrong}
    found = read({SNAPSHOT: snapshot.write({**SECTIONS, **others})})
    assert found.daemon is not None
    routes = found.routes()
    assert routes is not None
    assert found.tables(routes) == {}
    assert found.moves() == []
    assert found.gateways() is None
    assert read({SNAPSHOT: snapshot.write({**SECTIONS, "rib": wrong})}).routes() is None


@pytest.mark.parametrize("place", ["table", "export", "refreshing", "discarded"])
def test_routes_of_a_family_that_this_version_does_not_know_are_not_gone_on_with(place: str) -> None:
    """A later version may have left them: the start ended with them (ValueError)."""
    table = ["", "ipv7-unicast", [[], [], [], [], [], [], [], []], [], [], "", []]
    neighbor = ["leaf1", [], [], {}, {}, None]
    match place:
        case "export":
            neighbor[1] = [["ipv7-unicast", [], [], True, False]]
        case "refreshing":
            neighbor[2] = ["ipv7-unicast"]
        case "discarded":
            neighbor[4] = {"ipv7-unicast": [[], 0, None]}
    rib = [[neighbor] * (place != "table"), [], [], [table] * (place == "table"), None]
    found = read({SNAPSHOT: snapshot.write({**SECTIONS, "rib": msgspec.msgpack.encode(rib)})})
    assert found.routes() is None
    assert "another form" in found.problem


def test_session_whose_texts_are_no_utf8_costs_itself_only() -> None:
    broken = b"\x81\xa4name" + NO_UTF8
    found = left_sessions.read(msgspec.msgpack.encode(SavedSpeaker([broken], [broken], [])), {})
    assert found.refused.keys() == {"?"}
    assert not found.waits


def test_what_was_found_out_of_services_is_found_out_anew() -> None:
    standing = b"\x81" + NO_UTF8 + b"\x92\x90\x90"
    assert saved_standing.read(standing) == {}
    health = SavedHealth()
    health.remember(b"\x91\x95\x93" + NO_UTF8)
    assert not list(health.left())


def test_check_that_cannot_be_read_costs_only_itself() -> None:
    """An earlier version took a path that ends with a line feed: other services must not wait for their checks."""
    check = HealthCheck(type=CheckType.HTTP, port=80)
    good = SavedCheck(("backend", "web", "a"), check, True, "", 1.0)
    ended = [["backend", "old", "a"], {"type": "http", "port": 80, "path": "/x\n"}, True, "", 1.0]
    health = SavedHealth()
    health.remember(msgspec.msgpack.encode([ended, good, ended]))
    assert [id for id, _, _ in health.left()] == [good.id]
