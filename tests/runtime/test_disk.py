"""Whether the disk answers, and whether a thread waits for one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from bgpd.runtime import disk
from bgpd.runtime.disk import Disk, has_stuck_thread
from tests.waiting import until


def stat(name: str, state: str) -> str:
    return f"17 ({name}) {state} 1 17 17 0 -1 4194304\n"


@pytest.mark.parametrize(
    ("threads", "is_stuck"),
    [
        ([stat("bgpd", "S"), stat("bgpd", "R")], False),
        ([stat("bgpd", "S"), stat("bgpd", "D")], True),
        ([stat("a) D (b", "S")], False),
        ([stat("a) S (b", "D")], True),
    ],
)
def test_thread_that_nothing_ends_is_known_by_its_state(tmp_path: Path, threads: list[str], is_stuck: bool) -> None:
    for number, text in enumerate(threads):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(text)
    (tmp_path / "has-ended").mkdir()
    assert has_stuck_thread(tmp_path) is is_stuck


async def test_disk_answers_also_that_it_takes_nothing(tmp_path: Path) -> None:
    await Disk().answers(tmp_path)
    await Disk().answers(tmp_path / "missing")


async def test_disk_that_hangs_is_asked_once_and_answers_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, asked = threading.Event(), list[Path]()

    def hang(directory: Path) -> None:
        asked.append(directory)
        goes_on.wait()

    monkeypatch.setattr(disk, "_touch", hang)
    one = Disk()
    try:
        for _ in range(3):
            look = asyncio.create_task(one.answers(tmp_path))
            await until(lambda: bool(asked))
            assert not look.done()
            look.cancel()
            await asyncio.wait([look])
    finally:
        goes_on.set()
    await one.answers(tmp_path)
    assert asked == [tmp_path]
