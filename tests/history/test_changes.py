"""What became of a prefix, as events."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.cli.past import changes_of_files
from bgpd.history import blocks
from bgpd.history.changes import Asked, changes, is_about_routes
from bgpd.history.reading import NotKnown
from bgpd.history.records import AnyRecord
from bgpd.history.wanted import These
from bgpd.journal.store import Sought
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.model.views.host import EventView
from tests.daemon.wire_peer import update, withdrawal
from tests.history.rig import VRF, Recorded
from tests.rib.build import LOCAL, V4, drain, key

NET = "10.1.0.0/16"


def events(path: Path, prefix: str = NET, vrfs: tuple[str, ...] = ("",), **fields: object) -> list[EventView]:
    return changes(path, Asked(sought=Sought(prefix=prefix, **fields), vrfs=vrfs))  # type: ignore[arg-type]


def told(found: list[EventView]) -> list[tuple[str, object, object]]:
    """Names without the notice of where the history begins."""
    return [
        (one.event.removeprefix("route."), one.fields.get("neighbor"), one.fields.get("best"))
        for one in found
        if one.event != "history.begins"
    ]


def changed(path: Path) -> Recorded:
    """A prefix that two neighbors announce, and lose."""
    recorded = Recorded(path)
    for name in ("leaf1", "leaf2"):
        recorded.up(name)
    for what in (
        lambda: recorded.hear("leaf1", update((NET, "10.9.0.0/16"), asn=65201, next_hop="10.0.1.2")),
        lambda: recorded.hear("leaf2", update((NET,), asn=65201, next_hop="10.0.2.2")),
        lambda: recorded.hear("leaf1", update((NET,), asn=65201, next_hop="10.0.9.9")),
        lambda: recorded.hear("leaf1", update((NET,), asn=65201, next_hop="10.0.9.9")),  # says nothing new
        lambda: drain(recorded.rib.next_hop_changed(NextHop(parse_address("10.0.9.9")), "no route")),
        lambda: recorded.hear("leaf1", withdrawal(NET)),
        lambda: recorded.lose("leaf2", is_graceful=False),
        lambda: recorded.rib.announce_local(LOCAL, V4, [key(NET)], Attributes.of()),
    ):
        recorded.now += 1
        what()
        recorded.write()
    return recorded


def test_each_change_has_its_cause(tmp_path: Path) -> None:
    changed(tmp_path)
    found = events(tmp_path)
    assert found[0].event == "history.begins"
    assert told(found) == [
        ("announced", "leaf1", "leaf1"),
        ("announced", "leaf2", None),
        ("replaced", "leaf1", None),
        ("best_changed", None, "leaf2"),
        ("withdrawn", "leaf1", None),
        ("withdrawn", "leaf2", "none"),
        ("announced", "workload", "workload"),
    ]
    first, _, third, fourth, fifth, sixth, _ = [one.fields for one in found[1:]]
    assert first["after"] == "via 10.0.1.2, AS path 65201, local preference 100"
    assert third["before"] == first["after"]
    assert len({first["message"], third["message"], fifth["message"]}) == 3
    assert fourth["why"] == "next hop 10.0.9.9: no route"
    assert str(sixth["why"]).startswith("its session ended: hold timer expired")


def test_it_is_narrowed_as_events_are(tmp_path: Path) -> None:
    recorded = changed(tmp_path)
    assert [one[1] for one in told(events(tmp_path, neighbor="leaf2"))] == ["leaf2", "leaf2"]
    assert [one[0] for one in told(events(tmp_path, limit=2))] == ["withdrawn", "announced"]
    assert [one[0] for one in told(events(tmp_path, event="route.replaced"))] == ["replaced"]
    late = events(tmp_path, since=recorded.now - 1)
    assert [one.event for one in late] == ["route.withdrawn", "route.announced"], "no notice: it reaches so far back"
    assert told(events(tmp_path, until=recorded.now - 7)) == [("announced", "leaf1", "leaf1")]
    assert not told(events(tmp_path, "10.0.0.0/8"))
    assert not told(events(tmp_path, "2001:db8::/32"))
    inside = events(tmp_path, "10.0.0.0/8", longer_prefixes=True, since=1.0)
    assert {one.fields.get("prefix") for one in inside} == {None, NET, "10.9.0.0/16"}
    with pytest.raises(NotKnown, match="is no prefix"):
        events(tmp_path, "10.1.0.0/8")


@pytest.mark.parametrize(
    ("sought", "is_so"),
    [
        (Sought(), False),
        (Sought(prefix=NET), True),
        (Sought(prefix=NET, levels=("warning",)), False),
        (Sought(prefix=NET, event="session"), False),
        (Sought(prefix=NET, event="route"), True),
    ],
)
def test_the_history_is_read_only_where_it_may_have_something(sought: Sought, is_so: bool) -> None:
    assert is_about_routes(sought) is is_so


def test_of_a_vrf_from_evpn_the_change_is_told_too(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    source = None
    for _ in range(80):
        recorded.now += 1
        recorded.import_some()
        source = source or next(iter(recorded._imports.values()), None)
    recorded.write()
    found = events(tmp_path, vrfs=("", VRF))
    assert changes_of_files(tmp_path, Sought(prefix=NET)) == found, "of a daemon that does not run, too"
    assert {one.fields["vrf"] for one in found if one.event != "history.begins"} == {VRF}
    assert {"leaf1", "leaf2"} == {one.fields["neighbor"] for one in found if "neighbor" in one.fields}
    assert {"announced", "replaced", "withdrawn"} <= {name for name, _, _ in told(found)}


def test_an_update_is_decoded_once_for_all_vrfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(tmp_path)
    read: list[bytes] = []
    read_run = UpdateDecoder.read_run

    def counted(decoder: UpdateDecoder, bodies: list[bytes], found: list[RouteBatch]) -> int:
        read.extend(bodies)
        return read_run(decoder, bodies, found)

    monkeypatch.setattr(UpdateDecoder, "read_run", counted)
    in_main = told(events(tmp_path))
    once, read = read, []
    assert told(events(tmp_path, vrfs=("", VRF, "blue", "green"))) == in_main
    assert read == once
    read.clear()
    assert told(events(tmp_path, vrfs=(VRF, "blue"))) == []
    assert read == once


def test_too_many_prefixes_are_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.history.prefixes.MOST_KEYS", 3)
    changed(tmp_path)
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    recorded.hear("leaf1", update(tuple(f"10.2.{number}.0/24" for number in range(9)), asn=65201, next_hop="10.0.1.2"))
    recorded.write()
    with pytest.raises(NotKnown, match="prefixes are inside"):
        events(tmp_path, "10.0.0.0/8", longer_prefixes=True)


def test_blocks_about_other_keys_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full history is read in: nearly all of it is about other keys."""
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    for number in range(50):
        recorded.hear("leaf1", update((f"10.3.{number}.0/24",), asn=65201, next_hop="10.0.1.2"))
        recorded.write()
    read: list[AnyRecord] = []
    decoder = blocks.decoder

    class Watched:
        def decode(self, data: bytes) -> list[AnyRecord]:
            found = decoder.decode(data)
            read.extend(found)
            return found

    monkeypatch.setattr(blocks, "decoder", Watched())
    assert told(events(tmp_path, "10.3.7.0/24")) == [("announced", "leaf1", "leaf1")]
    assert len(read) == 1


def test_crowded_updates_are_found_though_not_in_the_index(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    many = tuple(f"10.4.{number}.0/24" for number in range(200))
    recorded.hear("leaf1", update((*many, "0.0.0.0/0"), asn=65201, next_hop="10.0.1.2"))
    recorded.write()
    recorded.now += 1
    recorded.hear("leaf1", update(many[1:], asn=65201, next_hop="10.0.2.2"))
    recorded.write()
    assert told(events(tmp_path, "10.4.0.0/24")) == [("announced", "leaf1", "leaf1")]
    assert [name for name, _, _ in told(events(tmp_path, "10.4.9.0/24"))] == ["announced", "replaced"]
    assert told(events(tmp_path, "0.0.0.0/0")) == [("announced", "leaf1", "leaf1")]
    assert not told(events(tmp_path, "8.0.0.0/8"))


def test_a_short_key_is_looked_for_only_where_the_index_has_it() -> None:
    default = These([key("0.0.0.0/0"), key("10.4.0.0/24")])
    index = blocks.encoded(blocks.Heard(1.0, 1, [b""]), [key("10.9.0.0/16")]).index
    assert default.within(index, is_crowded=False) is None
    crowded = default.within(index, is_crowded=True)
    assert crowded is not None
    assert not crowded(b"\0\0\0")
    assert crowded(b"\0" + key("10.4.0.0/24"))
