"""What is gathered is written in order, and a disk that fails costs what it did not take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bgpd.config.load import parse_config
from bgpd.history import segments
from bgpd.history.answers import NotKnown, past
from bgpd.history.recorder import History
from bgpd.history.records import Ended, Started
from bgpd.history.replay import Replay
from bgpd.history.segments import DIRECTORY, records_of, segments_of
from tests.history.rig import ADDRESS, TEXT, Recorded, keys
from tests.rib.build import V4
from tests.waiting import until


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
        replay = Replay("", V4, keys())
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
