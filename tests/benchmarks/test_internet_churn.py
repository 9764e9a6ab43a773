"""The churn of an Internet table has its mix, its sentinels change nothing but their next hop, and it can be undone."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pytest

from benchmarks import wire
from benchmarks.cases.churn import lag_figures
from benchmarks.internet_attributes import EVEN
from benchmarks.internet_churn import InternetChurn
from benchmarks.internet_table import InternetTable

TABLE = InternetTable(count=20_000)
CHURN = InternetChurn(table=TABLE, batches=400, size=50)
NEXT_HOPS = ("10.0.0.2", "10.0.0.3")


@functools.cache
def batches() -> list[list[bytes]]:
    return [bodies([chunk]) for chunk in CHURN.messages(asn=65201, next_hops=NEXT_HOPS)]


def bodies(chunks: Iterable[bytes]) -> list[bytes]:
    reader = wire.Reader()
    return [body for chunk in chunks for _, body in reader.feed(chunk)]


def state(chunks: Iterable[bytes]) -> dict[bytes, bytes]:
    """The attributes of each prefix after these UPDATEs; withdrawn ones are not in it."""
    found: dict[bytes, bytes] = {}
    for body in bodies(chunks):
        announced, withdrawn = wire.unicast_changes(body)
        found.update(dict.fromkeys(announced, body[4 : 4 + int.from_bytes(body[2:4], "big")]))
        for prefix in withdrawn:
            del found[prefix]
    return found


def initial() -> list[bytes]:
    return list(TABLE.announcements(asn=65201, next_hop=NEXT_HOPS[0]))


def test_each_batch_has_its_updates_and_ends_with_a_sentinel() -> None:
    assert {len(batch) for batch in batches()} == {51}
    sentinels = CHURN.sentinels()
    assert len(set(sentinels)) == len(sentinels) == 500
    ends = [wire.unicast_changes(batch[-1])[0] for batch in batches()]
    assert ends == [[prefix] for prefix in sentinels[:400]]


def test_sentinels_change_their_next_hop_and_nothing_else_changes_them() -> None:
    sentinels = set(CHURN.sentinels())
    others = {
        prefix for batch in batches() for body in batch[:-1] for part in wire.unicast_changes(body) for prefix in part
    }
    assert not sentinels & others
    before, after = state(initial()), state([*initial(), *CHURN.messages(asn=65201, next_hops=NEXT_HOPS)])
    changed = [prefix for prefix in sentinels if before[prefix] != after[prefix]]
    assert len(changed) == 400
    assert all(after[prefix] == before[prefix].replace(b"\x0a\0\0\2", b"\x0a\0\0\3") for prefix in changed)
    sets = [number for number, size in enumerate(TABLE.sizes()) for _ in range(size)]
    where = {prefix: number for number, prefix in enumerate(TABLE.prefixes())}
    assert {TABLE.preferred_by()[sets[where[prefix]]] for prefix in sentinels} == {EVEN}


def test_the_mix_is_path_changes_withdrawals_with_announcements_and_repeats() -> None:
    now = state(initial())
    counts = {"changed": 0, "repeated": 0, "withdrawn": 0, "announced": 0}
    for batch in batches():
        for body in batch[:-1]:
            announced, withdrawn = wire.unicast_changes(body)
            for prefix in withdrawn:
                del now[prefix]
                counts["withdrawn"] += 1
            for prefix in announced:
                block = body[4 : 4 + int.from_bytes(body[2:4], "big")]
                counts["announced" if prefix not in now else "repeated" if now[prefix] == block else "changed"] += 1
                now[prefix] = block
    total = sum(counts.values())
    assert counts["changed"] / total == pytest.approx(0.6, abs=0.02)
    assert counts["repeated"] / total == pytest.approx(0.2, abs=0.02)
    assert counts["withdrawn"] / total == pytest.approx(0.1, abs=0.02)
    assert counts["announced"] / total == pytest.approx(0.1, abs=0.02)


def test_after_what_is_restored_the_table_is_as_it_was() -> None:
    churned = CHURN.messages(asn=65201, next_hops=NEXT_HOPS)
    restored = CHURN.restored(asn=65201, next_hop=NEXT_HOPS[0])
    assert state([*initial(), *churned, *restored]) == state(initial())


def test_lag_is_of_the_batches_that_were_seen() -> None:
    figures = lag_figures([0, 10_000_000, 20_000_000], [1_000_000, 13_000_000])
    assert figures["unseen_batches"] == 1.0
    assert figures["lag_max_ms"] == pytest.approx(3.0)
