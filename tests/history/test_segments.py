"""The files of the history: bounded, and read as far as they are whole."""

from __future__ import annotations

import io
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from bgpd.history import segments
from bgpd.history.answers import past
from bgpd.history.blocks import Block, EncodedHeard, blocks, encoded, read_block
from bgpd.history.changes import Asked, changes
from bgpd.history.reading import NotKnown, of_tables, replayed
from bgpd.history.recorder import MOST_WAITING, History
from bgpd.history.records import BaseBegan, BaseEnded, Configured, Heard, Lost, Started
from bgpd.history.replay import Replay
from bgpd.history.segments import DIRECTORY, HistoryUnusable, SegmentWriter, known_from, records_of, segments_of
from bgpd.history.wanted import These
from bgpd.journal.store import Sought
from tests.daemon.wire_peer import update, withdrawal
from tests.history.rig import ADDRESS, Recorded, config, wanted
from tests.rib.build import V4, key

NET = "10.1.0.0/16"


def heard(at: float, bodies: list[bytes]) -> EncodedHeard:
    return encoded(Heard(at, 1, bodies), [])


def recorded(path: Path) -> Recorded:
    """A history of three parts, each of which begins with a base; what neighbors said is in the second."""
    found = Recorded(path, seed=4)
    found.up("leaf1")
    for _ in range(60):
        found.act()
        found.write()
    return found


def damaged(path: Path, number: int) -> None:
    data = bytearray(path.read_bytes())
    data[number] ^= 0xFF
    path.write_bytes(data)


def test_the_oldest_goes_when_there_is_no_room(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=4_000)
    for number in range(100):
        writer.append([heard(float(number), [bytes((number * step) % 251 for step in range(200))])])
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4_000 + 500
    found = segments_of(tmp_path)
    assert found[0].number > 1
    assert [one.number for one in found] == list(range(found[0].number, found[-1].number + 1))
    assert writer.bytes == sum(one.bytes for one in found)
    assert known_from(found) is None


def test_base_that_must_not_wait_is_whole_before_the_last_one_is_deleted(tmp_path: Path) -> None:
    """Also a large one, of a quarter of the room."""
    chance = random.Random(5)
    writer = SegmentWriter(tmp_path, max_bytes=80_000)

    def some(size: int) -> EncodedHeard:
        return heard(2.0, [chance.randbytes(size)])

    def say_base() -> None:
        writer.append([BaseBegan(1.0, b"", [], [])])
        for _ in range(20):
            writer.append([some(1_000)])
            assert writer.known_from is not None or not writer.bases
        writer.append([BaseEnded(3.0)])

    say_base()
    for _ in range(3):
        while not writer.is_high_time_for_base:
            writer.append([some(500)])
        say_base()


def test_the_end_of_a_base_of_which_something_was_lost_makes_nothing_known(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, max_bytes=1 << 20)
    writer.append([BaseBegan(1.0, b"", [], [])])
    writer.append([Lost(2.0, "the disk was full"), BaseEnded(3.0)])
    assert (writer.known_from, writer.bases) == (None, 0)
    assert known_from(segments_of(tmp_path)) is None
    writer.append([BaseBegan(4.0, b"", [], []), BaseEnded(5.0)])
    assert (writer.known_from, writer.bases) == (5.0, 1)


def test_another_process_goes_on_with_new_segments(tmp_path: Path) -> None:
    first, second = (SegmentWriter(tmp_path, max_bytes=1 << 20) for _ in range(2))
    first.append([heard(1.0, [b"a"])])
    second.append([heard(2.0, [b"b"])])
    first.append([heard(3.0, [b"c"])])
    found = [record for one in segments_of(tmp_path) for block in records_of(one) for record in block]
    assert sorted(record.at for record in found if isinstance(record, Heard)) == [1.0, 2.0, 3.0]


def test_what_is_damaged_is_not_known_and_the_rest_is(tmp_path: Path) -> None:
    history = recorded(tmp_path)
    files = sorted((tmp_path / DIRECTORY).iterdir())
    assert len(files) > 2
    chosen = max(files[:-1], key=lambda path: path.stat().st_size)
    damaged(chosen, 30)
    found = {}
    for at in history.states:
        try:
            found[at] = past(tmp_path, ADDRESS, "", at=at).verdict
        except NotKnown as error:
            found[at] = f"not known: {error}"
    unknown = [text for text in found.values() if text.startswith("not known")]
    assert 0 < len(unknown) < len(found)
    assert all("is damaged" in text or "begins at" in text for text in unknown)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100, b"bgpdhist\x00\x09" + bytes(200)])
def test_files_that_are_none_or_of_another_version_are_left_out(tmp_path: Path, content: bytes) -> None:
    directory = tmp_path / DIRECTORY
    history = recorded(tmp_path)
    (directory / "000000000000.routes").write_bytes(content)
    (directory / "999999999999.routes").write_bytes(content)
    (directory / "notes.txt").write_bytes(content)
    assert past(tmp_path, ADDRESS, "", at=history.now).at == history.now
    writer = SegmentWriter(directory, max_bytes=1 << 20)
    writer.append([heard(history.now, [])])
    assert segments_of(directory)[-1].number == 1_000_000_000_000


def test_a_block_that_was_cut_off_ends_its_segment(tmp_path: Path) -> None:
    history = recorded(tmp_path)
    last = sorted((tmp_path / DIRECTORY).iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-3])
    segment = segments_of(tmp_path / DIRECTORY)[-1]
    assert "middle of a block" in str(list(records_of(segment))[-1])
    with pytest.raises(NotKnown, match="middle of a block"):
        past(tmp_path, ADDRESS, "", at=history.now)


def test_without_files_the_answer_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotKnown, match=r"cannot be read: .*history: No such file"):
        past(tmp_path, ADDRESS, "", at=1.0)
    (tmp_path / DIRECTORY).mkdir()
    with pytest.raises(NotKnown, match="does not say it: the history begins later"):
        past(tmp_path, ADDRESS, "", at=1.0)


def test_a_directory_that_cannot_be_made_is_an_error_that_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HistoryUnusable, match="file"):
        SegmentWriter(tmp_path / "file" / "history", max_bytes=1).append([heard(1.0, [])])


def test_what_waits_for_a_disk_that_hangs_is_bounded_and_begins_anew(tmp_path: Path) -> None:
    history = History(tmp_path, max_bytes=1 << 20, config=config().rib)
    history.started((), is_adopting=False)
    for _ in range(20):
        history.add(Heard(1.0, 1, []), 1 << 20)
    assert history.lost == 1
    assert history.wants_base
    assert any(isinstance(one, Lost) for one in history._gathered.waiting)
    assert history._gathered.size < MOST_WAITING


def test_tables_that_do_not_fit_are_warned_of(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, max_bytes=400)
    assert recorded.history.warnings() == []
    recorded.up("leaf1")
    for _ in range(40):
        recorded.act()
        recorded.write()
    assert recorded.history.known_from is not None or "too small" in recorded.history.warnings()[0]


def test_turned_off_it_keeps_nothing() -> None:
    history = History(None, max_bytes=0, config=config().rib)
    history.started((), is_adopting=False)
    assert not history._gathered.waiting
    assert history.warnings() == []


def test_a_block_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    """The kernel takes a part of it, and says so by a number only."""
    writer = SegmentWriter(tmp_path, max_bytes=1 << 20)
    writer.append([heard(1.0, [b"a"])])
    noise = random.Random(1).randbytes(100_000)
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))
    try:
        with pytest.raises(HistoryUnusable, match="No space left"):
            writer.append([heard(2.0, [noise])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    writer.append([heard(3.0, [b"c"])])
    found = [block for one in segments_of(tmp_path) for block in records_of(one)]
    assert found == [[Heard(1.0, 1, [b"a"])], [Heard(3.0, 1, [b"c"])]]
    assert writer.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_what_follows_a_damaged_base_says_nothing(tmp_path: Path) -> None:
    recorded(tmp_path)
    said = [record for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one) for record in block]
    replay = Replay("", V4, wanted())
    replay.damaged("x is damaged")
    for record in said:
        assert not isinstance(record, str)
        if not isinstance(record, Started | BaseBegan | Configured | BaseEnded):
            replay.take(record)
    assert replay.problem == "x is damaged"


def test_what_is_deleted_while_it_is_read_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    history = recorded(tmp_path)
    found = segments_of(tmp_path / DIRECTORY)
    starts = [one for one in found if one.begins_base]
    assert len(starts) > 1
    for one in found[: found.index(starts[-1])]:
        one.path.unlink()

    def problem(at: float) -> str:
        (replay,) = replayed(found, of_tables(("",), V4, wanted()), wanted(), since=at, until=at)
        return replay.problem

    assert not problem(history.now)
    assert "deleted" in problem(starts[-1].began_at - 1)


def test_what_was_written_before_the_clock_was_set_back_counts(tmp_path: Path) -> None:
    """A host whose clock ran an hour ahead when it started."""
    recorded = Recorded(tmp_path)
    recorded.history.close()
    recorded.now += 7_200
    recorded.start()
    recorded.up("leaf1")
    recorded.hear("leaf1", update((NET,), asn=65201, next_hop="10.0.1.2"))
    recorded.write()
    recorded.now -= 3_600
    recorded.hear("leaf1", update(("10.2.0.0/16",), asn=65201, next_hop="10.0.1.2"))
    recorded.write()
    asked = recorded.now
    recorded.now += 1_000
    recorded.hear("leaf1", withdrawal(NET))
    recorded.write()
    assert "went to 10.0.1.2" in past(tmp_path, ADDRESS, "", at=asked).verdict
    assert "no route" in past(tmp_path, ADDRESS, "", at=recorded.now).verdict


def test_a_damaged_file_among_others_is_a_gap_whenever_it_was_changed(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    first, *_, among, last = segments_of(tmp_path / DIRECTORY)
    damaged(among.path, 0)
    assert among.path.stat().st_mtime > found.now
    view = past(tmp_path, ADDRESS, "", at=found.now)
    assert view.known_from == last.ended_at, "changes before are not told"
    for neighbor in ("", "leaf1"):
        sought = Sought(prefix=NET, since=first.began_at, until=found.now, neighbor=neighbor)
        (gap,) = [one for one in changes(tmp_path, Asked(sought=sought)) if one.event == "history.not_known"]
        assert gap.at == last.ended_at
        assert among.path.name in str(gap.fields["reason"])


def test_an_end_that_is_not_known_is_told_whatever_is_looked_for(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    for one in segments_of(tmp_path / DIRECTORY)[1:]:
        one.path.write_bytes(one.path.read_bytes()[:-1])
    sought = Sought(prefix=NET, since=found.now - 10, until=found.now, neighbor="leaf1")
    assert changes(tmp_path, Asked(sought=sought))[-1].event == "history.not_known"


class Counted(io.FileIO):
    """Counts what is read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size) or b""
        self.read_bytes += len(data)
        return data


def test_of_blocks_that_are_not_wanted_little_is_read(tmp_path: Path) -> None:
    """A history may take gigabytes, and is looked at by a process that has less."""
    writer = SegmentWriter(tmp_path, max_bytes=1 << 24)
    noise = random.Random(1).randbytes(1 << 20)
    writer.append([encoded(Heard(1.0, 1, [noise]), [key(NET)])])
    (segment,) = segments_of(tmp_path)
    with Counted(segment.path) as file:
        (one,) = blocks(file, 16)
        assert isinstance(one, Block)
        assert read_block(file, one, These([key("10.9.0.0/16")])) == []
        assert file.read_bytes < 100
        assert len(read_block(file, one, None)) == 1


def test_a_block_that_is_being_written_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SegmentWriter(tmp_path, max_bytes=1 << 20).append([heard(1.0, [b"a"])])
    (segment,) = segments_of(tmp_path)
    data = segment.path.read_bytes()
    segment.path.write_bytes(data[:-3])

    def and_the_rest(file: BinaryIO, at: int) -> Iterator[Block | str]:
        yield from blocks(file, at)
        segment.path.write_bytes(data)

    monkeypatch.setattr(segments, "blocks", and_the_rest)
    ((record,),) = records_of(segment)
    assert isinstance(record, Heard)
