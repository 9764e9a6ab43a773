"""When a feed may delete, and when not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.model.reports import Problem
from bgpd.model.service import Service
from bgpd.model.workload import Presence
from bgpd.workload.feed.feed import SLICE, Feed
from bgpd.workload.feed.generations import BUSY_S, CONFIRM_S, INCOMPLETE_S, QUIET_S, Generations
from bgpd.workload.feed.payload import PayloadRefused, decode_service, decode_workload
from bgpd.workload.feed.saved import Change, Saved
from tests.workload.fixtures import V4, Rig, claim, key


class FeedRig(Rig):
    def __init__(self, source: str = "mqtt", saved: Saved | None = None, *, most: int = 1_000_000) -> None:
        super().__init__()
        self.at = 100.0
        self.most = most
        self.saves = 0
        self.on_disk = msgspec.structs.replace(saved) if saved is not None else Saved()
        self.heard_whole = 0
        self.applied: dict[str, tuple[str, Service]] = {}
        self.feed = self.make(source)
        self.asked = 0
        self.stream = Generations(self.feed, heard_whole=self._whole, ask_again=self._ask_again)
        if saved is not None:
            self.feed.notes.remember(saved, self.feed.vrfs)
            for _ in self.feed.restore(saved):
                pass
        for name in ("pod1", "pod2"):
            self.link(name)
        self.stream.joined()

    def make(self, source: str) -> Feed:
        return Feed(
            source,
            self.claims,
            self.known,
            self,
            vrfs={"", "blue"},
            commands=None,
            most=self.most,
            reports=self.reports,
            journal=self,
        )

    def note(self, change: Change) -> None:
        self.saves += 1
        change.apply(self.on_disk)

    def problems(self, kind: str, id: str = "") -> list[Problem]:
        return self.reports.problems("mqtt", kind, id)

    def _ask_again(self) -> None:
        self.asked += 1

    def _whole(self) -> None:
        self.heard_whole += 1

    def apply(self, source: str, name: str, service: Service | None) -> None:
        if service is None:
            self.applied.pop(name, None)
        else:
            self.applied[name] = (source, service)

    def park(self, source: str, name: str) -> None:
        self.applied.pop(name, None)

    def owner(self, name: str) -> str:
        return self.applied[name][0] if name in self.applied else ""

    def hear(self, id: str, address: str = "", *, interface: str = "pod1") -> None:
        number = sum(id.encode())
        payload = json.dumps({"addresses": [address or f"10.64.1.{number}"], "interface": interface})
        self.stream.workload_received(id, payload.encode(), self.at)

    def sync(self, generation: int, count: int) -> None:
        self.stream.sync_received(json.dumps({"generation": generation, "count": count}).encode(), self.at)

    def wait(self, seconds: float = QUIET_S) -> None:
        self.at += seconds
        self.stream.tick(self.at)

    def rejoin(self) -> None:
        self.stream.left()
        self.stream.joined()

    @property
    def ids(self) -> str:
        return "".join(sorted(self.feed.workloads))


MANY = {f"w{i:03}": f"10.0.{i >> 8}.{i & 255}" for i in range(SLICE + 2)}
"""More workloads than are removed in one step, with their addresses."""


def rejoined(addresses: dict[str, str]) -> FeedRig:
    """Generation 1 has these workloads ("": any address), and was applied; the connection is another one by now."""
    rig = FeedRig()
    for id, address in addresses.items():
        rig.hear(id, address)
    rig.sync(1, len(addresses))
    rig.wait()
    rig.rejoin()
    return rig


def test_lost_connection_deletes_nothing() -> None:
    rig = rejoined({"a": ""})
    rig.wait(1000)
    assert rig.ids == "a"


def test_complete_later_generation_deletes_what_it_lacks() -> None:
    rig = FeedRig()
    for id in "abc":
        rig.hear(id)
    rig.sync(1, 3)
    rig.wait()
    assert (rig.feed.generation, rig.heard_whole) == (1, 1)
    rig.rejoin()
    rig.sync(2, 2)
    rig.hear("a")
    rig.wait(1000)
    assert rig.ids == "abc"
    rig.hear("d")
    rig.wait()
    assert (rig.ids, rig.feed.generation) == ("ad", 2)


def test_thousands_that_a_generation_lacks_are_removed_in_steps_but_not_what_is_heard_again() -> None:
    rig = rejoined(MANY)
    rig.sync(2, 0)
    rig.wait()
    assert (len(rig.feed.workloads), rig.stream.timer()) == (2, 0.0)
    rig.hear(f"w{SLICE + 1:03}", "10.0.0.9")
    rig.stream.tick(rig.at)
    assert list(rig.feed.workloads) == [f"w{SLICE + 1:03}"]


def test_a_generation_is_applied_once_all_that_it_lacks_is_gone() -> None:
    """A connection, or a process, that ends in between leaves nothing of the former generation for good."""
    rig = rejoined(MANY)
    rig.sync(2, 0)
    rig.wait()
    assert (len(rig.feed.workloads), rig.feed.generation, rig.on_disk.generation) == (2, 1, 1)
    after = FeedRig(saved=rig.on_disk)
    for one in (rig, after):
        one.rejoin()
        one.sync(2, 0)
        one.wait()
        assert (one.ids, one.feed.generation, one.on_disk.generation) == ("", 2, 2)
        assert one.stream.timer() is None


@pytest.mark.parametrize("kind", ["workload", "service"])
def test_refused_payload_that_a_generation_lacks_is_reported_no_more(kind: str) -> None:
    rig = FeedRig()
    hear = rig.stream.workload_received if kind == "workload" else rig.stream.service_received
    hear("bad", b"[]", rig.at)
    assert rig.problems(kind, "bad")
    sync(rig, generation=1, count=int(kind == "workload"), services=int(kind == "service"))
    rig.wait()
    assert (rig.feed.generation, bool(rig.problems(kind, "bad"))) == (1, True)
    rig.rejoin()
    sync(rig, generation=2, count=0, services=0)
    rig.wait()
    assert rig.problems(kind, "bad") == []


def test_what_waits_for_its_vrf_can_be_changed_also_where_there_may_be_no_more() -> None:
    rig = FeedRig(most=1)
    rig.stream.workload_received("a", b'{"addresses": ["10.0.0.1"], "vrf": "blue", "interface": "pod1"}', rig.at)
    rig.stream.service_received("s", b'{"addresses": ["10.0.0.2"], "vrf": "blue"}', rig.at)
    rig.feed.vrfs = {""}
    list(rig.feed.follow_vrfs())
    rig.hear("a")
    rig.hear("b")
    offer(rig, "s")
    offer(rig, "t", "10.64.9.2")
    assert (rig.ids, list(rig.applied)) == ("a", ["s"])
    assert not rig.problems("workload", "a")
    assert "has 1 workloads" in rig.problems("workload", "b")[0].wrong


def test_the_same_generation_deletes_nothing() -> None:
    rig = rejoined({"a": "", "b": ""})
    rig.hear("a")
    rig.sync(1, 1)
    rig.wait()
    assert rig.ids == "ab"


def test_count_that_is_right_only_for_a_moment_deletes_nothing() -> None:
    rig = rejoined({"a": "", "b": ""})
    rig.sync(2, 2)
    rig.hear("x")
    rig.hear("a")
    rig.at += QUIET_S / 2
    rig.stream.workload_received("x", b"", rig.at)
    rig.hear("b")
    rig.wait()
    assert rig.ids == "ab"


def test_feed_that_is_never_quiet_is_applied_all_the_same() -> None:
    rig = FeedRig(saved=Saved(generation=1))
    rig.hear("a")
    rig.sync(2, 1)
    for _ in range(int(BUSY_S / QUIET_S * 2) + 2):
        rig.at += QUIET_S / 2
        rig.stream.tick(rig.at)
        rig.hear("a")
    assert rig.feed.generation == 2


def test_wrong_payload_counts_as_present_and_leaves_the_former_claim() -> None:
    rig = rejoined({"a": ""})
    rig.stream.workload_received("a", b"{", rig.at)
    rig.sync(2, 1)
    rig.wait()
    assert rig.ids == "a"
    assert rig.problems("workload", "a")
    rig.hear("a")
    assert not rig.problems("workload", "a")


def test_older_generation_is_refused_and_told() -> None:
    rig = FeedRig(saved=Saved(generation=7))
    rig.sync(3, 0)
    rig.wait()
    (problem,) = rig.problems("sync")
    assert "older than 7" in problem.wrong
    assert rig.feed.generation == 7


def test_wrong_sync_is_told_and_changes_nothing() -> None:
    rig = FeedRig()
    rig.hear("a")
    rig.stream.sync_received(b'{"generation": 1, "count": "many"}', rig.at)
    rig.wait()
    assert (rig.ids, rig.feed.generation) == ("a", None)
    assert rig.problems("sync")
    rig.stream.sync_received(b"", rig.at)
    assert rig.stream.sync is None


def test_restored_claims_are_in_force_before_anything_is_heard() -> None:
    before = FeedRig()
    before.hear("a")
    before.sync(4, 1)
    before.wait()
    after = FeedRig(saved=before.feed.saved())
    after.settle()
    assert after.feed.generation == 4
    assert set(after.announced) == {("", "10.64.1.97/32")}


def test_restored_claim_of_an_unknown_vrf_is_kept_in_the_file() -> None:
    workload = decode_workload(b'{"addresses": ["10.0.0.1"], "vrf": "red"}', id="a", vrfs={"red"})
    service = decode_service(b'{"addresses": ["10.0.0.2"], "vrf": "red"}', name="s", vrfs={"red"})
    saved = Saved(generation=1, workloads={"a": workload}, services={"s": service})
    rig = FeedRig(saved=saved)
    assert (rig.ids, rig.applied) == ("", {})
    assert (rig.feed.saved().workloads, rig.feed.saved().services) == (saved.workloads, saved.services)
    assert rig.feed.delete_workload("a")
    assert rig.feed.delete_service("s")
    assert rig.feed.saved().workloads == {}


def test_claims_of_a_vrf_that_goes_are_kept_and_count_again_when_it_comes() -> None:
    rig = FeedRig()
    rig.stream.workload_received("a", b'{"addresses": ["10.0.0.1"], "vrf": "blue", "interface": "pod1"}', rig.at)
    rig.stream.service_received("s", b'{"addresses": ["10.0.0.2"], "vrf": "blue"}', 0.0)
    rig.settle()
    saved = rig.feed.saved()
    rig.feed.vrfs = {""}
    list(rig.feed.follow_vrfs())
    rig.settle()
    assert (rig.ids, rig.applied, rig.announced, rig.kernel) == ("", {}, {}, {})
    assert (rig.feed.saved(), rig.on_disk) == (saved, saved), "nothing is deleted"
    for name in (("workload", "a"), ("service", "s")):
        (problem,) = rig.problems(*name)
        assert problem.wrong == 'there is no VRF "blue" any more'
    rig.feed.vrfs = {"", "blue"}
    list(rig.feed.follow_vrfs())
    rig.settle()
    assert (rig.ids, list(rig.applied)) == ("a", ["s"])
    assert set(rig.announced) == {("blue", "10.0.0.1/32")}
    assert rig.problems("workload", "a") == rig.problems("service", "s") == []


VM = b'{"addresses": ["10.0.0.1"], "vrf": "blue", "interface": "pod1", "mac": "02:00:00:00:00:01"}'
WHERE = ("blue", "10.0.0.1/32")
MOVED = Presence(sequence=2, seen=3, moved="announced elsewhere with sequence 3")


def with_vm(presence: Presence | None) -> FeedRig:
    """A feed with a VM, of which EVPN says `presence`."""
    rig = FeedRig()
    rig.claims.started()
    rig.stream.workload_received("a", VM, rig.at)
    rig.settle()
    if presence is not None:
        rig.presences[WHERE[0], key(WHERE[1])] = presence
        rig.feed.notes.presence_changed(rig.claims.claims_at("blue", V4, key(WHERE[1])))
    return rig


def restarted(saved: Saved) -> FeedRig:
    rig = FeedRig(saved=saved)
    rig.claims.started()
    rig.settle()
    return rig


def test_workload_that_moved_is_still_given_up_after_a_restart_though_its_payload_is_heard_again() -> None:
    rig = restarted(with_vm(MOVED).on_disk)
    rig.stream.workload_received("a", VM, rig.at)
    rig.settle()
    assert rig.state("mqtt", "a") == ("moved", MOVED.moved)
    assert (rig.announced, rig.kernel) == ({}, {})
    assert rig.resumed == {("blue", key("10.0.0.1/32")): MOVED}


@pytest.mark.parametrize("how", ["changed", "deleted and made again"])
def test_workload_that_moved_is_here_when_it_is_said_anew_after_a_restart(how: str) -> None:
    rig = restarted(with_vm(MOVED).on_disk)
    if how == "changed":
        rig.stream.workload_received("a", VM.replace(b"pod1", b"pod2"), rig.at)
    else:
        rig.stream.workload_received("a", b"", rig.at)
        rig.stream.workload_received("a", VM, rig.at)
    rig.settle()
    assert set(rig.announced) == {WHERE}
    assert rig.on_disk.workload_presences == rig.feed.saved().workload_presences == {}


def test_workload_that_moved_and_is_said_anew_before_a_restart_is_here_after_it() -> None:
    rig = with_vm(MOVED)
    rig.stream.workload_received("a", VM.replace(b"pod1", b"pod2"), rig.at)
    assert set(restarted(rig.on_disk).announced) == {WHERE}


def test_kernel_route_that_is_replayed_after_a_restart_does_not_say_that_a_workload_came() -> None:
    rig = FeedRig(saved=with_vm(MOVED).on_disk)
    rig.claims.claim("kernel", "blue/10.0.0.1/32", (claim("10.0.0.1/32", source="kernel", vrf="blue"),))
    rig.claims.started()
    rig.settle()
    assert rig.state("mqtt", "a") == ("moved", MOVED.moved)


def test_sequence_of_an_earlier_run_is_given_once_and_not_to_another_mac() -> None:
    saved = with_vm(Presence(sequence=3)).on_disk
    rig = restarted(saved)
    asked = "blue", V4, key("10.0.0.1/32")
    assert set(rig.announced) == {WHERE}
    assert rig.known.of("mqtt", "a") == {"10.0.0.1/32": Presence(sequence=3)}
    assert [rig.known.take_former(*asked), rig.known.take_former(*asked)] == [3, None]
    rig = restarted(saved)
    rig.stream.workload_received("a", VM.replace(b"00:01", b"00:02"), rig.at)
    assert rig.known.take_former(*asked) is None


@pytest.mark.parametrize(("version", "former"), [(1, 0), (2, None)])
def test_workload_of_a_state_file_without_presences_counts_as_announced_if_the_file_is_of_version_1(
    version: int, former: int | None
) -> None:
    saved = with_vm(None).on_disk
    rig = restarted(msgspec.structs.replace(saved, version=version))
    assert rig.known.take_former("blue", V4, key("10.0.0.1/32")) == former


def test_presence_outlives_that_a_vrf_goes_and_comes() -> None:
    rig = with_vm(MOVED)
    rig.feed.vrfs = {""}
    list(rig.feed.follow_vrfs())
    rig.settle()
    assert rig.on_disk.workload_presences == {"a": {"10.0.0.1/32": MOVED}}
    rig.feed.vrfs = {"", "blue"}
    list(rig.feed.follow_vrfs())
    rig.settle()
    assert rig.state("mqtt", "a") == ("moved", MOVED.moved)


def test_many_claims_follow_their_vrf_in_slices() -> None:
    rig = FeedRig()
    for number in range(2 * SLICE + 1):
        rig.hear(f"w{number}", f"10.1.{number >> 8}.{number & 255}")
    rig.feed.vrfs = set()
    assert len(list(rig.feed.follow_vrfs())) == 2
    assert rig.ids == ""


def test_repeated_payload_is_not_saved_again() -> None:
    rig = FeedRig()
    rig.hear("a")
    saves = rig.saves
    rig.hear("a")
    assert rig.saves == saves


def test_told_changes_add_up_to_what_is_in_force() -> None:
    """What the journal holds is what a snapshot would."""
    rig = FeedRig()
    rig.stream.workload_received("a", b'{"addresses": ["10.64.1.1"]}', rig.at)
    rig.stream.workload_received("b", b'{"addresses": ["10.64.1.2"]}', rig.at)
    rig.stream.workload_received("a", b'{"addresses": ["10.64.1.3"]}', rig.at)
    rig.stream.workload_received("b", b"", rig.at)
    rig.stream.service_received("s", b'{"addresses": ["10.64.100.1"]}', 0.0)
    assert rig.on_disk == rig.feed.saved()
    assert list(rig.on_disk.workloads) == ["a"]


def test_id_of_another_source_is_refused_unless_it_says_the_same() -> None:
    rig = FeedRig()
    rig.hear("a")
    api = rig.make("api")
    same = rig.feed.workloads["a"]
    assert api.put_workload("a", same)
    other = decode_workload(b'{"addresses": ["10.9.9.9"]}', id="a", vrfs={""})
    with pytest.raises(PayloadRefused, match="in use by another workload, from mqtt"):
        api.put_workload("a", other)


def test_service_of_another_source_is_refused() -> None:
    rig = FeedRig()
    rig.stream.service_received("web", b'{"addresses": ["10.0.0.2"]}', 0.0)
    Generations(rig.make("api"), heard_whole=lambda: None).service_received("web", b'{"addresses": ["10.0.0.3"]}', 0.0)
    (problem,) = rig.reports.problems("api", "service", "web")
    assert "from mqtt" in problem.wrong
    assert rig.applied["web"][1].addresses == ("10.0.0.2",)
    rig.stream.service_received("web", b"", 0.0)
    assert rig.applied == {}


def offer(rig: FeedRig, name: str, address: str = "10.64.9.1") -> None:
    body = json.dumps({"addresses": [address], "mode": "announce-only"}).encode()
    rig.stream.service_received(name, body, rig.at)


def sync(rig: FeedRig, **fields: Any) -> None:
    rig.stream.sync_received(json.dumps({"count": 0} | fields).encode(), rig.at)


def test_service_that_a_counted_generation_lacks_ends() -> None:
    rig = FeedRig()
    offer(rig, "web")
    offer(rig, "dns", "10.64.9.2")
    sync(rig, generation=1, services=2)
    rig.wait()
    rig.rejoin()
    offer(rig, "dns", "10.64.9.2")
    sync(rig, generation=2, services=2)
    rig.wait(1000)
    assert list(rig.applied) == ["web", "dns"], "the generation is not complete"
    sync(rig, generation=2, services=1)
    rig.wait()
    assert (list(rig.applied), rig.feed.generation, rig.asked) == (["dns"], 2, 0)


def test_service_that_was_never_heard_again_ends_with_all_that_is_kept_of_it() -> None:
    service = decode_service(b'{"addresses": ["10.0.0.2"], "vrf": "red"}', name="s", vrfs={"red"})
    rig = FeedRig(saved=Saved(generation=1, services={"s": service}))
    sync(rig, generation=2, services=0)
    rig.wait()
    assert (rig.feed.services, rig.on_disk.services) == ({}, {})


def test_service_that_is_not_counted_ends_only_after_it_was_asked_for_again() -> None:
    rig = FeedRig()
    offer(rig, "web")
    sync(rig, generation=1)
    rig.wait()
    assert rig.feed.generation == 1
    rig.rejoin()
    sync(rig, generation=2)
    rig.wait()
    assert (list(rig.applied), rig.asked, rig.feed.generation) == (["web"], 1, 1)
    rig.wait(CONFIRM_S)
    assert (rig.applied, rig.asked, rig.feed.generation) == ({}, 1, 2)


def test_service_that_is_not_counted_and_comes_when_asked_for_stays() -> None:
    rig = FeedRig()
    offer(rig, "web")
    sync(rig, generation=1)
    rig.wait()
    rig.rejoin()
    sync(rig, generation=2)
    rig.wait()
    offer(rig, "web")
    rig.wait(CONFIRM_S)
    assert (list(rig.applied), rig.feed.generation) == (["web"], 2)


def test_incomplete_generation_is_reported_and_asked_for_again_ever_less_often() -> None:
    rig = FeedRig()
    rig.hear("a")
    sync(rig, generation=1, count=3, services=0)
    rig.wait()
    assert (rig.asked, rig.problems("snapshot")) == (0, [])
    rig.wait(INCOMPLETE_S[0])
    (problem,) = rig.problems("snapshot")
    wrong = "generation 1 is incomplete: it has 3 workloads and 0 services, and 1 workloads and 0 services were heard"
    assert (rig.asked, problem.wrong) == (1, wrong)
    assert "max_queued_messages" in problem.right
    rig.wait(INCOMPLETE_S[0])
    assert rig.asked == 1
    rig.wait(INCOMPLETE_S[0])
    assert rig.asked == 2
    rig.hear("b")
    rig.hear("c")
    rig.wait()
    assert (rig.problems("snapshot"), rig.feed.generation, rig.stream.timer()) == ([], 1, None)


def test_sync_that_is_taken_back_is_not_asked_for() -> None:
    rig = FeedRig()
    sync(rig, generation=1, count=3)
    rig.wait()
    rig.stream.sync_received(b"", rig.at)
    rig.wait(1000)
    assert (rig.asked, rig.problems("snapshot")) == (0, [])


def test_another_epoch_counts_anew_and_the_refusal_says_so() -> None:
    rig = FeedRig(saved=Saved(generation=7))
    rig.hear("a")
    sync(rig, generation=1, count=1)
    (problem,) = rig.problems("sync")
    assert problem.right == 'generations grow; an orchestrator that counts anew gives another "epoch"'
    sync(rig, generation=1, count=1, epoch="b")
    rig.wait()
    assert (rig.problems("sync"), rig.feed.generation, rig.stream.epoch) == ([], 1, "b")
    assert (rig.on_disk.generation, rig.on_disk.epoch) == (1, "b")
    sync(rig, generation=0, count=1, epoch="b")
    assert rig.problems("sync")


def test_generations_of_another_broker_count_anew() -> None:
    rig = FeedRig(saved=Saved(generation=7, host="node1", broker="mqtt://a"))
    rig.feed.belongs_to("node1", "mqtt://a")
    assert rig.feed.generation == 7
    rig.feed.belongs_to("node1", "mqtt://b")
    assert (rig.feed.generation, rig.on_disk.broker) == (None, "mqtt://b")


_IDS = st.sampled_from("abcd")
_STEP = st.one_of(
    st.tuples(st.just("put"), _IDS),
    st.tuples(st.just("delete"), _IDS),
    st.tuples(st.just("bad"), _IDS),
    st.tuples(st.just("rejoin"), st.just("")),
    st.tuples(st.just("wait"), st.just("")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_without_a_generation_only_deletes_delete(steps: list[tuple[str, str]]) -> None:
    rig = FeedRig()
    wanted: set[str] = set()
    for what, id in steps:
        match what:
            case "put":
                rig.hear(id)
                wanted.add(id)
            case "delete":
                rig.stream.workload_received(id, b"", rig.at)
                wanted.discard(id)
            case "bad":
                rig.stream.workload_received(id, b"[]", rig.at)
            case "rejoin":
                rig.rejoin()
            case _:
                rig.wait()
    rig.settle()
    assert rig.ids == "".join(sorted(wanted))
    assert len(rig.announced) == len(wanted)


def test_service_follows_its_vrf_alone() -> None:
    rig = FeedRig()
    rig.stream.service_received("main", b'{"addresses": ["10.0.0.2"]}', 0.0)
    rig.stream.service_received("tenant", b'{"addresses": ["10.0.0.3"], "vrf": "blue"}', 0.0)
    rig.stream.workload_received("a", b'{"addresses": ["10.0.0.1"], "interface": "pod1"}', rig.at)
    rig.feed.vrfs = {""}
    list(rig.feed.follow_vrfs())
    assert (list(rig.applied), rig.ids) == (["main"], "a")
    rig.feed.vrfs = {"", "blue"}
    list(rig.feed.follow_vrfs())
    assert sorted(rig.applied) == ["main", "tenant"]


def test_generation_counts_once_it_was_quiet_for_so_long_or_busy_for_longer() -> None:
    rig = FeedRig()
    assert rig.stream.timer() is None
    rig.hear("a")
    assert rig.stream.timer() == rig.at + QUIET_S
    start = rig.at
    while rig.at < start + BUSY_S - QUIET_S:
        rig.at += QUIET_S / 2
        rig.hear("a")
        assert rig.stream.timer() == min(rig.at + QUIET_S, start + BUSY_S)
    assert rig.stream.timer() == start + BUSY_S
    rig.at = start + BUSY_S
    rig.stream.tick(rig.at)
    assert rig.stream.timer() is None
    rig.hear("a")
    assert rig.stream.timer() == rig.at + QUIET_S


def test_no_more_addresses_than_there_may_be_but_fewer_are_always_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = FeedRig()
    monkeypatch.setattr(rig.feed, "_most_addresses", 3)
    two = b'{"addresses": ["10.0.0.1", "10.0.0.2"], "interface": "pod1"}'
    rig.stream.workload_received("a", two, rig.at)
    rig.stream.workload_received("b", two.replace(b"0.0.", b"0.1."), rig.at)
    (problem,) = rig.problems("workload", "b")
    assert "more than 3 addresses" in problem.wrong
    rig.hear("c")
    assert rig.ids == "ac"
    monkeypatch.setattr(rig.feed, "_most_addresses", 1)
    rig.stream.workload_received("a", two.replace(b"10.0.0.2", b"10.0.0.9"), rig.at)
    rig.stream.workload_received("a", b'{"addresses": ["10.0.0.9"], "interface": "pod1"}', rig.at)
    assert rig.problems("workload", "a") == []
    rig.stream.workload_received("a", two, rig.at)
    assert rig.problems("workload", "a")
    rig.stream.workload_received("a", b"", rig.at)
    rig.stream.workload_received("c", b"", rig.at)
    rig.hear("d")
    assert rig.ids == "d", "what is deleted takes no room"


def test_ranks_of_what_waits_for_its_vrf_stay_as_they_were() -> None:
    """Whoever came first is so again when the VRF comes back, whatever happens to the others meanwhile."""
    saved = Saved(
        workloads={"a": decode_workload(VM, id="a", vrfs={"blue"})},
        workload_ranks={"a": {WHERE[1]: 3}, "gone": {WHERE[1]: 4}},
    )
    rig = FeedRig(saved=saved)
    rig.feed.vrfs = {""}
    list(rig.feed.follow_vrfs())
    rig.claims.started()
    rig.feed.notes.order_known()
    assert rig.feed.saved().workload_ranks == {"a": {WHERE[1]: 3}}
    rig.feed.vrfs = {"", "blue"}
    list(rig.feed.follow_vrfs())
    rig.claims.order_known()
    rig.feed.notes.order_known()
    assert rig.feed.saved().workload_ranks == rig.on_disk.workload_ranks == {}


def test_ranks_are_noted_when_an_address_becomes_contested_and_no_longer_when_it_is_not() -> None:
    rig = FeedRig()
    rig.claims.started()
    rig.claims.order_known()
    rig.hear("a", "10.0.0.1")
    rig.claims.claim("api", "x", (claim("10.0.0.1/32", "pod2", id="x", source="api"),))
    rig.settle()
    rig.feed.notes.states_changed(rig.states, order_known=False)
    assert rig.on_disk.workload_ranks == {}
    rig.feed.notes.states_changed(rig.states, order_known=True)
    assert rig.on_disk.workload_ranks == rig.feed.saved().workload_ranks == {"a": {"10.0.0.1/32": 0}}
    saves = rig.saves
    rig.feed.notes.states_changed(rig.states, order_known=True)
    assert rig.saves == saves, "nothing changed"
    rig.claims.claim("api", "x")
    rig.settle()
    rig.feed.notes.states_changed(rig.states, order_known=True)
    assert rig.on_disk.workload_ranks == rig.feed.saved().workload_ranks == {}
