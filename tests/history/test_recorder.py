"""What is gathered is written in order, and a disk that fails costs what it did not take."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import threading
from argparse import Namespace
from pathlib import Path

import msgspec
import pytest

from bgpd.__main__ import _report_message
from bgpd.api.backend import Rejected
from bgpd.cli.decode import Hooks
from bgpd.cli.past import explain_past
from bgpd.config.load import parse_config
from bgpd.history import segments
from bgpd.history.answers import past
from bgpd.history.base import SLICE, base
from bgpd.history.gathered import Gathered
from bgpd.history.reading import NotKnown
from bgpd.history.recorder import History
from bgpd.history.records import AnyRecord, BaseEnded, Ended, Heard, Lost, SessionClosed, Started
from bgpd.history.replay import Replay
from bgpd.history.segments import DIRECTORY, records_of, segments_of
from bgpd.journal.store import Sought
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.next_hop import NextHop
from bgpd.model.views.explained import PastRoutesView
from bgpd.model.views.queries import PastQuery
from bgpd.past import Past
from bgpd.rib.adj_rib_out import Advertisement
from bgpd.rib.next_hops import AllowedNextHops
from tests.daemon.wire_peer import UPDATE, attribute, message, update, withdrawal
from tests.history.rig import ADDRESS, AGREED, LOCAL, TEXT, Recorded, config, wanted
from tests.rib.build import V4, drain, key
from tests.waiting import until


@pytest.fixture(autouse=True)
def started_as_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked runs by the command line that started the daemon, here that of what runs the tests."""
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "bgpd", "run"])


async def test_written_by_itself_once_something_came(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    running = asyncio.create_task(recorded.history.run())
    try:
        await until(lambda: recorded.history.bytes)
    finally:
        running.cancel()
    assert recorded.history.known_from == recorded.now


def test_what_was_not_written_is_not_known_until_the_next_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    recorded.write()
    first = recorded.now
    monkeypatch.setattr(segments, "LEAST_FREE", 1 << 60)
    recorded.now += 10
    recorded.hear("leaf1")
    recorded.write()
    assert "not kept" in recorded.history.warnings()[0]
    monkeypatch.undo()
    recorded.now += 10
    recorded.write()
    assert recorded.history.warnings() == []
    assert recorded.history.wants_base
    assert past(tmp_path, ADDRESS, "", at=first)
    with pytest.raises(NotKnown, match="MiB of the disk"):
        past(tmp_path, ADDRESS, "", at=recorded.now)
    recorded.now += 10
    recorded.begin_base()
    for walk in recorded._walks:
        list(walk)
    recorded.write()
    assert past(tmp_path, ADDRESS, "", at=recorded.now)


def test_a_process_that_goes_on_without_a_last_word_of_the_one_before_says_so(tmp_path: Path) -> None:
    for is_last_word in (True, False):
        recorded = Recorded(tmp_path / str(is_last_word))
        recorded.write()
        recorded.now += 1
        if is_last_word:
            recorded.history.close(is_handed_over=True)
        replay = Replay("", V4, wanted())
        parts = segments_of(recorded.directory / DIRECTORY)
        found = [one for part in parts for block in records_of(part) for one in block]
        for record in found:
            assert not isinstance(record, str)
            replay.take(record)
        assert isinstance(found[-1], Ended) is is_last_word
        replay.take(Started(recorded.now, found[0].config, is_adopting=True))  # type: ignore[union-attr]
        assert bool(replay.problem) is not is_last_word


def test_a_configuration_with_guests_is_read_again(tmp_path: Path) -> None:
    guest = '[[workload.bgp]]\nname = "vm"\naddress = "10.64.1.5"\nasn = 65300\nmax_prefixes = 9\n'
    guest += 'prefixes = ["10.65.0.0/16 le 32"]\n'
    with_guest = parse_config(TEXT % 100 + guest, "x.toml")[0]
    history = History(tmp_path / DIRECTORY, max_bytes=1 << 20, config=with_guest.rib, now=lambda: 5.0)
    history.started((), is_adopting=False)
    history.configured(with_guest.rib)
    history.close()
    assert past(tmp_path, ADDRESS, "", at=5.0).route is None


def test_a_base_of_which_a_part_was_lost_tells_nothing(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.write()
    history = recorded.history
    history.base_began((), ())
    recorded.write()
    history.add(Heard(recorded.now, 1, []), 1 << 30)
    history.base_ended()
    assert not any(isinstance(one, BaseEnded) for one in history._gathered.waiting)
    assert history.wants_base
    replay = Replay("", V4, wanted())
    for block in (block for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one)):
        for record in block:
            assert not isinstance(record, str)
            replay.take(record)
    assert not replay.problem
    replay.take(Lost(recorded.now, "the disk does not keep up"))
    replay.take(BaseEnded(recorded.now))
    assert replay.problem == "the disk does not keep up"


def test_the_next_base_waits_while_much_changes_as_long_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "QUIET", 1)
    for is_calm_at_last in (True, False):
        recorded = Recorded(tmp_path / str(is_calm_at_last), max_bytes=8_000)
        recorded.write()
        recorded.up("leaf1")
        file = recorded.history._file
        assert file is not None
        while file.since_base <= 3_400:
            recorded.hear("leaf1")
            recorded.write()
            assert not recorded.history.wants_base
        if is_calm_at_last:
            recorded.history.look_whether_full()
            assert recorded.history.wants_base
            assert not recorded.history.is_high_time
            continue
        while file.since_base <= 5_000:
            recorded.hear("leaf1")
            recorded.write()
            assert recorded.history.wants_base is (file.since_base > 5_000)
        assert recorded.history.is_high_time


def test_the_next_base_is_asked_for_though_one_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(tmp_path, max_bytes=8_000)
    monkeypatch.setattr(segments, "LEAST_FREE", 1 << 60)
    recorded.write()  # that of the start
    monkeypatch.undo()
    recorded.write()
    recorded.begin_base()
    list(recorded._walks.pop())
    recorded.write()
    assert not recorded.history.wants_base
    recorded.up("leaf1")
    for _ in range(200):
        recorded.hear("leaf1")
        recorded.write()
    assert recorded.history.wants_base


def test_a_second_hand_over_needs_a_last_word_too(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.history.close(is_handed_over=True)
    recorded.start(is_adopting=True)
    recorded.write()
    recorded.start(is_adopting=True)
    recorded.write()
    with pytest.raises(NotKnown, match="did not write all that it knew"):
        past(tmp_path, ADDRESS, "", at=recorded.now)


def test_a_process_that_could_not_become_the_next_one_goes_on_as_that(tmp_path: Path) -> None:
    """What is heard then is known before the next base, and its last word is not taken for that of a later end."""
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    recorded.hear("leaf1", update(("10.1.2.3/32",), asn=65201, next_hop="10.0.1.2"))
    recorded.history.close(is_handed_over=True)
    recorded.now += 1
    recorded.history.goes_on()
    recorded.write()
    assert recorded.history.wants_base
    assert past(tmp_path, ADDRESS, "", at=recorded.now).route is not None
    recorded.now += 1
    recorded.hear("leaf1", withdrawal("10.1.2.3/32"))
    recorded.write()
    assert past(tmp_path, ADDRESS, "", at=recorded.now - 1).route is not None
    assert past(tmp_path, ADDRESS, "", at=recorded.now).route is None
    recorded.now += 1
    recorded.start(is_adopting=True)
    recorded.write()
    with pytest.raises(NotKnown, match="did not write all that it knew"):
        past(tmp_path, ADDRESS, "", at=recorded.now)


def test_a_process_that_ended_without_a_word_may_not_have_run(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.write()
    recorded.now += 100
    asked = recorded.now
    assert "without a word" not in past(tmp_path, ADDRESS, "", at=asked).verdict
    recorded.now += 100
    recorded.start()
    recorded.write()
    assert (
        "whether bgpd still ran is not known: it ended without a word" in past(tmp_path, ADDRESS, "", at=asked).verdict
    )
    assert "without a word" not in past(tmp_path, ADDRESS, "", at=recorded.now).verdict


def test_a_defect_at_the_end_does_not_keep_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = Recorded(tmp_path).history

    def write(file: object, records: object) -> None:
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(history, "_write", write)
    history.close(is_handed_over=True)
    assert not history.is_on


async def test_what_waits_for_a_disk_that_hangs_stays_bounded_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = Recorded(tmp_path).history
    goes_on, written = threading.Event(), list[AnyRecord]()

    def write(file: object, gathered: Gathered) -> None:
        goes_on.wait()
        written.extend(gathered.records())

    monkeypatch.setattr(history, "_write", write)
    try:
        for number in range(3):
            history.add(Ended(float(number), False))
            asked = asyncio.create_task(history.flush())
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
        assert [one.at for one in history._gathered.waiting] == [1.0, 2.0]
    finally:
        goes_on.set()
    await history.flush()
    assert [one.at for one in written][-3:] == [0.0, 1.0, 2.0]


def test_an_answer_is_written_without_a_log_of_that_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon reads it from standard output."""
    recorded = Recorded(tmp_path)
    networks = frozenset({(V4, key("10.0.1.0/24"))})
    allowed = AllowedNextHops(peer=bytes((10, 0, 1, 2)), interface="eth0", networks=networks)
    source = recorded._source("leaf1")
    recorded.history.session_up(source, AGREED["leaf1"], recorded._section("leaf1"), allowed)
    recorded.record(source, update(("10.1.0.0/16",), asn=65201, next_hop="10.0.9.9"))
    recorded.write()
    command = Namespace(address="10.1.2.3", at=recorded.now, state=str(tmp_path), vrf="", no_events=True, json=True)
    hooks = Hooks(lambda: None, lambda *_: 0, lambda: None, lambda *_: b"", lambda _: "")
    assert explain_past(command, hooks, command.address) == 0
    assert "10.0.9.9" in json.loads(capsys.readouterr().out)["verdict"]


def test_a_message_is_decoded_as_its_session_meant_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """IPv4 routes of an unnumbered session have IPv6 next hops (RFC 8950)."""
    recorded = Recorded(tmp_path)
    hop = bytes.fromhex("fe80") + bytes(13) + b"\1"
    agreed = msgspec.structs.replace(AGREED["leaf1"], extended_next_hop=frozenset({V4}))
    allowed = AllowedNextHops(peer=hop, interface="eth0", networks=frozenset())
    source = recorded._source("leaf1")
    recorded._decoders[source] = UpdateDecoder(agreed, nlri_decoders={}, interface="eth0")
    recorded.history.session_up(source, agreed, recorded._section("leaf1"), allowed)
    reach = attribute(0x80, 14, b"\0\1\1\x10" + hop + b"\0" + key("10.1.0.0/16"))
    block = attribute(0x40, 1, b"\0") + attribute(0x40, 2, b"\2\1" + (65201).to_bytes(4)) + reach
    recorded.record(source, message(UPDATE, struct.pack("!HH", 0, len(block)) + block))
    recorded.write()
    command = Namespace(
        address="10.1.2.3", at=recorded.now, state=str(tmp_path), vrf="", no_events=True, json=False, wire=True
    )
    hooks = Hooks(lambda: None, lambda *_: 0, lambda: None, _report_message, lambda _: "")
    assert explain_past(command, hooks, command.address) == 0
    shown = capsys.readouterr().out
    assert "10.1.0.0/16 went to fe80::1" in shown
    assert '"reaction": "accept"' in shown


async def test_a_time_that_nobody_can_write_is_the_last_one(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    asked = Past(History(tmp_path / DIRECTORY, max_bytes=1, config=config().rib), str(tmp_path))
    with pytest.raises(Rejected, match="does not say it") as refused:
        await asked.ask(ADDRESS, "", 1e19)
    assert refused.value.status == 404


async def test_the_loop_does_not_wait_for_long_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes are passed on as they were said (1,000 with 64 paths each took 250 ms), changes are read in steps."""
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    for med in range(3):
        recorded.now += 1
        more = attribute(0x80, 4, bytes((0, 0, 0, med)))
        recorded.hear("leaf1", update(("10.1.0.0/16",), asn=65201, next_hop="10.0.1.2", extra=more))
    await recorded.history.flush()
    asked = Past(recorded.history, str(tmp_path))
    said = await asked.routes(PastQuery(prefix="10.1.0.0/16", at=recorded.now), ("",))
    assert [one.prefix for one in msgspec.json.decode(said, type=PastRoutesView).routes] == ["10.1.0.0/16"]
    turns: list[float] = []
    real = asyncio.sleep
    monkeypatch.setattr("bgpd.past.AT_ONCE", 1)
    monkeypatch.setattr("bgpd.past.asyncio.sleep", lambda seconds: turns.append(seconds) or real(seconds))
    changed = await asked.changes(Sought(prefix="10.1.0.0/16", event="route"), ("",))
    assert [one.event for one in changed if one.event.startswith("route")] == [
        "route.announced",
        "route.replaced",
        "route.replaced",
    ]
    assert turns.count(0) >= len(changed)


async def test_the_name_of_an_interface_may_be_no_utf_8(tmp_path: Path) -> None:
    """The kernel takes any bytes; any container may have such an interface."""
    recorded = Recorded(tmp_path)
    name = b"eth\xff".decode(errors="surrogateescape")
    recorded.history.own_address("", name, bytes((10, 9, 9, 1)), is_gone=False)
    recorded.history.local(LOCAL, ("", V4), [key("10.7.0.0/16")], Attributes.of(), NextHop(bytes(4), name))
    source = recorded._source("leaf1")
    section = msgspec.structs.replace(recorded._section("leaf1"), interface=name)
    networks = frozenset({(V4, key("10.0.1.0/24"))})
    allowed = AllowedNextHops(peer=source.address, interface=name, networks=networks)
    recorded.history.session_up(source, AGREED["leaf1"], section, allowed)
    recorded.history.configured(msgspec.structs.replace(recorded.config.rib, neighbor=(section,)))
    recorded.record(source, update(("10.1.0.0/16",), asn=65201, next_hop="10.0.1.2"))
    await recorded.history.flush()
    assert recorded.history.is_on
    assert "10.1.0.0/16 went to 10.0.1.2" in past(tmp_path, ADDRESS, "", at=recorded.now).verdict


def test_a_base_does_not_say_what_a_refresh_is_about_to_remove(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    recorded.hear("leaf1", update(("10.1.0.0/16",), asn=65201, next_hop="10.0.1.2"))
    received, source = recorded.rib.received, recorded.sources["leaf1"]
    received.refresh_began(source, V4)
    removal = received.refresh_ended(source, V4)
    walk = base(recorded.history, recorded.rib, received._host, lambda: received.is_sweeping)
    assert [next(walk) for _ in range(3)] == [True, True, True]
    drain(removal)
    assert not received.is_sweeping
    list(walk)
    recorded.write()
    assert recorded.history.known_from == recorded.now
    assert "no route" in past(tmp_path, ADDRESS, "", at=recorded.now).verdict


def test_a_base_does_not_say_what_must_not_be_kept_for_long(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    received = recorded.rib.received
    recorded.up("leaf1")
    no_llgr = attribute(0xC0, 8, b"\xff\xff\x00\x07")
    recorded.hear("leaf1", update(("10.1.0.0/16",), asn=65201, next_hop="10.0.1.2", extra=no_llgr))
    recorded.lose("leaf1", is_graceful=True)
    recorded.now += 130
    _, long_lived = received.stale.due(recorded.now)
    assert long_lived
    walk = received.become_long_lived(long_lived)
    assert received.is_sweeping
    drain(walk)
    assert not received.is_sweeping


async def test_a_time_of_which_nothing_could_be_written_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(tmp_path)
    recorded.write()
    before = recorded.now
    asked = Past(recorded.history, str(tmp_path))
    monkeypatch.setattr(segments, "LEAST_FREE", 1 << 60)
    recorded.now += 10
    recorded.up("leaf1")
    for at in (recorded.now, recorded.now + 100):
        with pytest.raises(Rejected, match=r"does not say it: .* MiB of the disk"):
            await asked.ask(ADDRESS, "", at)
    assert (await asked.ask(ADDRESS, "", before)).verdict.startswith("no route")
    recorded.history.give_up(ValueError("no"))
    with pytest.raises(Rejected, match="a defect"):
        await asked.ask(ADDRESS, "", before)


def test_a_session_that_is_closed_twice_is_closed_once(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    source = recorded.sources["leaf1"]
    for reason in ("hold timer expired", "and once more"):
        recorded.history.session_closed(source, reason, {})
    recorded.write()
    blocks = (block for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one))
    closed = [record for block in blocks for record in block if isinstance(record, SessionClosed)]
    assert [one.reason for one in closed] == ["hold timer expired"]


def test_a_base_looks_at_few_of_the_routes_that_a_neighbor_was_sent_at_once(tmp_path: Path) -> None:
    """A neighbor may be sent the whole Internet."""
    recorded = Recorded(tmp_path)
    recorded.up("leaf1")
    (state,) = recorded.rib.received.states()
    steps = len(list(base(recorded.history, recorded.rib, recorded.rib.received._host, lambda: False)))
    one = Advertisement(Attributes.of(), None, True)
    state.exports[V4].advertised.update({number.to_bytes(4, "big"): one for number in range(10 * SLICE)})
    assert len(list(base(recorded.history, recorded.rib, recorded.rib.received._host, lambda: False))) == steps + 10
