"""The inputs that are kept, tried again: nothing raises, and nothing is held on to. `make fuzz-coverage` finds more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bgpd.message.exabgp_codec import HEADER_LENGTH
from tests.fuzz import corpus
from tests.fuzz.judge import BLOCKS, LIMIT_S, growth, slow
from tests.fuzz.longest import MESSAGES
from tests.fuzz.reached import fewest, share
from tests.fuzz.targets import TARGETS
from tests.message.decoding import decoder

PAGE = (Path(__file__).parents[2] / "docs" / "proof.md").read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_are_kept_go_right_and_reach_most_of_what_their_target_tries(name: str) -> None:
    """A search that begins with less looks at the surface only."""
    target = TARGETS[name]
    number, missed = share(target, [*corpus.kept(name), *target.seeds(), b""])
    assert len(missed) < number / 2, sorted((code.co_filename, line) for code, line in missed)


@pytest.mark.parametrize("name", MESSAGES)
def test_longest_messages_are_decoded(name: str) -> None:
    made, session = MESSAGES[name]
    body, one = made(), decoder(**session)
    assert 60_000 < len(body) + HEADER_LENGTH <= 65_535
    assert one.read_run([body], []) or one.decode(body).notification is None


def test_each_corpus_has_a_target() -> None:
    assert {path.stem for path in corpus.DIRECTORY.iterdir()} == TARGETS.keys()


def test_page_names_each_target_once_with_what_it_holds() -> None:
    table = PAGE[PAGE.index("| target | what it holds |") :].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in names_of(row)]
    assert sorted(named) == sorted(TARGETS)


def test_searches_that_the_page_tells_of_are_of_targets() -> None:
    table = PAGE[PAGE.index("| target | CPU |") :].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in names_of(row)]
    assert len(named) == len(set(named)) > 10
    assert set(named) <= set(TARGETS)


def names_of(row: str) -> list[str]:
    """The targets of a row's first cell; what begins with a hyphen is another ending of the first one's name."""
    names = re.findall(r"`([^`]+)`", row.split("|")[1])
    return [names[0].partition("-")[0] + name if name.startswith("-") else name for name in names]


@pytest.mark.parametrize("name", ["open", "update", "evpn", "session", "payload", "config"])
def test_memory_does_not_grow(name: str) -> None:
    inputs = corpus.kept(name)[:20]
    assert growth(TARGETS[name].run, inputs) <= BLOCKS


def test_judge_tells_what_is_slow_and_what_grows() -> None:
    """By CPU time, so that a busy machine changes nothing."""
    import time

    def busy(data: bytes) -> None:
        began = time.thread_time()
        while data and time.thread_time() - began < 2 * LIMIT_S:
            pass

    assert [data for _, data in slow(busy, [b"", b"x"])] == [b"x"]
    held: list[object] = []
    assert growth(lambda data: held.extend([[data] for _ in range(BLOCKS)]), [b"x"]) > BLOCKS


def test_few_inputs_are_kept_that_reach_what_all_reach() -> None:
    run = TARGETS["router-discovery"].run
    known, valid, alike = b"", b"\xff\x85" + bytes(7), b"\xff\x85" + bytes(9)
    assert fewest(run, [known, valid, alike], known=[known], most=5) == [valid]
    assert fewest(run, [valid], known=[alike], most=5) == []
