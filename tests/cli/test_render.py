"""Tables on terminals of any width: nothing is cut, reasons have lines of their own, rows are written as they come."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.cli.render import Table, fields
from bgpd.cli.tables import SHOWN

NEIGHBORS = [
    ("leaf1", "fe80::5496:53ff:fe0e:df05%eth0", "4200065201", "established", "3h12m", "100000", "64", "leaf1"),
    ("leaf2", "fe80::cc5d:faff:fedc:eac2%eth1", "4200065202", "active", "12s", "0", "0", "connection refused " * 6),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(
    columns: Sequence[str], rows: Sequence[Sequence[str]], monkeypatch: pytest.MonkeyPatch, *, width: int
) -> list[str]:
    """The lines that a terminal shows, without their colours."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = Terminal()
    table = Table(columns, out)
    table.write(rows)
    table.end()
    return re.sub(r"\x1b\[\d+m", "", out.getvalue()).splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 132, 300])
def test_no_line_is_longer_than_the_terminal_and_nothing_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(SHOWN["neighbors"].columns, NEIGHBORS, monkeypatch, width=width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for row in NEIGHBORS:
        for cell in row:
            assert all(word in words for word in cell.split())


def test_numbers_and_states_stand_beside_the_name_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("leaf1", "10.0.11.0%eth0", "65201", "established", "25s", "10", "4", "no answer " * 9)]
    lines = written(SHOWN["neighbors"].columns, rows, monkeypatch, width=80)
    assert lines[1].split() == ["leaf1", "10.0.11.0%eth0", "65201", "established", "25s", "10", "4"]
    assert lines[2].startswith("    Detail: no answer")


def test_reason_that_fits_stays_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("10.64.1.5/32", "pod1", "static", "eth0", "", "announced", "1m", ""), ("10.64.1.6/32", "pod2", "mqtt")]
    rows[1] += ("eth0", "", "failed", "1m", "the interface is down " * 4)
    rows.append(("10.64.1.7/32", "pod3", "mqtt", "eth0", "", "failed", "1m", "no route"))
    lines = written(SHOWN["workloads"].columns, rows, monkeypatch, width=80)
    assert lines[-1].endswith("failed     1m   no route")
    assert [line for line in lines if line.startswith("    Reason: the interface")]


def test_rows_that_come_later_may_be_wider_and_fill_further_columns() -> None:
    out = io.StringIO()
    table = Table(("Prefix", "VRF", "State"), out)
    table.write([("10.0.0.0/8", "", "installed")] * 100)
    table.write([("2001:db8:1:2:3:4:5:6/128", "", "installed")])
    table.write([("10.0.0.0/8", "blue", "installed")])
    table.end()
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["Prefix", "State"]
    assert lines[-4:-3] == ["2001:db8:1:2:3:4:5:6/128  installed"]
    assert lines[-2].split() == ["Prefix", "VRF", "State"]
    assert lines[-1].split() == ["10.0.0.0/8", "blue", "installed"]


CELLS = st.text("abc 019./:", max_size=30).map(str.strip)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=8), st.integers(20, 200))
def test_every_word_of_every_cell_is_shown(rows: list[tuple[str, ...]], width: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        lines = written(("One", "Two", "Three", ""), rows, monkeypatch, width=width)
    shown = " ".join(lines).split()
    for word in itertools.chain.from_iterable(cell.split() for row in rows for cell in row):
        assert word in shown


def test_a_text_of_the_network_cannot_look_like_other_fields() -> None:
    shown = fields({"neighbor": "leaf1", "reason": 'down neighbor=leaf2 "x"', "empty": "", "count": 3, "name": "été"})
    assert shown == 'neighbor=leaf1 reason="down neighbor=leaf2 \\"x\\"" empty="" count=3 name=été'
