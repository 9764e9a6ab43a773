"""Listings for programs: CSV by RFC 4180, JSON with chosen fields; and what may have been meant where nothing is."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bgpd.cli.listing import CsvWriter, names_of_fields
from bgpd.cli.show import _NAMES
from bgpd.cli.tables import SHOWN
from bgpd.model.views.host import EventView
from bgpd.model.views.sessions import NeighborView
from tests.cli.test_main import run, serving
from tests.scripted_backend import NOW, ScriptedBackend


@pytest.fixture(autouse=True)
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedBackend]:
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    backend = ScriptedBackend()
    with serving(path, backend):
        yield backend


@pytest.mark.parametrize("kind", SHOWN)
def test_each_kind_has_its_fields_as_columns(kind: str) -> None:
    columns = names_of_fields(kind, "csv")
    assert len(columns) == len(set(columns)) > 1
    inner = SHOWN[kind].rows_of
    assert (inner in names_of_fields(kind, "json")) is bool(inner)
    assert inner not in columns or not inner


def test_csv_has_a_header_and_a_line_for_each_view(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "neighbors", "--format", "csv") == 0
    text = capsys.readouterr().out
    assert text.count("\r\n") == 3, "lines end with CR LF"
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in rows] == ["leaf1", "leaf2"]
    assert list(rows[0]) == list(NeighborView.__struct_fields__)
    assert json.loads(rows[0]["families"])["ipv4-unicast"]["received"] == 3, "an object is JSON"
    assert rows[0]["dynamic"] == "false"
    assert rows[0]["tcp_ao"] == "", "null is an empty cell"
    assert rows[1]["last_error"] == "connection refused \x1b[31m", "as it is, for programs"


def test_candidates_of_a_route_are_rows_of_csv(capsys: pytest.CaptureFixture[str]) -> None:
    fields = "prefix,candidates.source,candidates.role,candidates.next_hop"
    assert run("show", "routes", "10.0.0.1", "--format", "csv", "--fields", fields) == 0
    assert capsys.readouterr().out.split("\r\n") == [
        fields,
        "10.0.0.1/32,leaf1,best,10.0.1.2",
        "10.0.0.1/32,leaf2,lost,fe80::1%eth1",
        "",
    ]


def test_what_has_no_candidates_is_a_row_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    writing = CsvWriter(["prefix", "candidates.source"], "candidates")
    writing.write([{"prefix": "10.0.0.0/8", "candidates": []}])
    assert writing.end()
    assert capsys.readouterr().out == "prefix,candidates.source\r\n10.0.0.0/8,\r\n"


@pytest.mark.parametrize("value", ['say "x"', "a,b", "two\nlines", "cr\rlf", " blank ", "é", "=1+1"])
def test_cells_come_back_as_they_were(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    writing = CsvWriter(["name"], "")
    writing.write([{"name": value}])
    text = capsys.readouterr().out
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["name"], [value]]


def test_empty_listing_is_a_header_and_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "workloads", "pod2", "--format", "csv", "--fields", "id,prefix") == 0
    assert capsys.readouterr().out == "id,prefix\r\n"
    assert run("show", "workloads", "pod2", "--json", "--fields", "id,prefix") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_json_of_chosen_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "neighbors", "--format", "json", "--fields", "state,name") == 0
    text = capsys.readouterr().out
    assert json.loads(text) == [{"state": "established", "name": "leaf1"}, {"state": "active", "name": "leaf2"}]
    assert len(text.splitlines()) == 4, "a view on each line, as the API answers"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "csv", "--fields", "nam"), 'neighbors have no field "nam"\ndid you mean name?'),
        (("--json", "--fields", "zzz"), 'neighbors have no field "zzz"\none of: name, address,'),
        (("--fields", "name"), "--fields is about JSON and CSV\nadd --format csv or --json"),
        (("--json", "--format", "csv"), "--json and --format csv are given\nleave one out"),
        (("--watch", "--format", "csv"), "--watch and --format csv do not go together"),
    ],
)
def test_what_does_not_go_together_is_told(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "neighbors", *options) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert said in written.err


@pytest.mark.parametrize(
    "options", [("--format", "xml"), ("--fields", "a,"), ("--fields", "a,a"), ("--watch=0",), ("--watch=x",)]
)
def test_values_that_are_none_are_wrong_usage(options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("show", "neighbors", *options)


def test_events_of_a_file_are_csv_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "events", "--file", str(tmp_path / "none.sqlite"), "--format", "csv") == 1
    assert "the journal cannot be read" in capsys.readouterr().err


def test_lists_of_workloads_and_services_have_the_same_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("workload", "list", "--format", "csv", "--fields", "id") == 0
    assert capsys.readouterr().out == "id\r\npod1\r\n"
    assert run("service", "list", "--json", "--fields", "name") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "web"}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "workloads", "pod2"), 0, "did you mean pod1?"),
        (("show", "service", "wep"), 0, "did you mean web?"),
        (("explain", "pod"), 1, "did you mean pod1?"),
        (("workload", "del", "pod2"), 1, "did you mean pod1?"),
        (("schema", "neigbors"), 1, "did you mean neighbors?"),
    ],
)
def test_name_that_is_close_is_told(
    arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_prefixes_that_are_near_are_told(daemon: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.near = ["10.0.0.0/24", "10.0.0.0/30"]
    assert run("show", "routes", "10.0.0.0/28") == 0
    written = capsys.readouterr()
    assert written.out == "no routes that fit\n"
    assert written.err == "did you mean 10.0.0.0/24 or 10.0.0.0/30?\n"
    assert run("show", "workloads", "10.64.0.0/16") == 0
    assert capsys.readouterr().err == "did you mean 10.64.1.5/32?\n"


def test_argument_that_is_no_utf8_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("show", "neighbors", "\udcff"), ("explain", "\udcff"), ("workload", "del", "\udcff")):
        assert run(*arguments) == 2
        assert 'bgpd: "\\udcff" is no UTF-8\n' in capsys.readouterr().err


def test_nothing_of_an_event_is_lost() -> None:
    """What `--fields` and CSV call a field is what JSON calls it."""
    event = EventView(sequence=1, at=NOW, level="info", event="x")
    assert list(msgspec.to_builtins(event)) == names_of_fields("events", "csv") == names_of_fields("events", "json")
    assert os.environ["BGPD_SOCKET"]


def test_nothing_is_told_of_as_no_things() -> None:
    """ "no neighbors", "no advertised routes"."""
    assert {kind for kind in SHOWN if not kind.endswith("s")} <= _NAMES.keys()
