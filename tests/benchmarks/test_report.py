"""Results become medians, verdicts, tables and a page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import __main__ as program
from benchmarks import charts, peers, report, results
from benchmarks.digest import in_short, is_own_table, losses
from benchmarks.results import ResultFile, Run, Summary
from benchmarks.targets import LOAD_1M, verdicts


def example() -> Summary:
    runs = [
        Run(case=LOAD_1M, contestant=name, figures={"seconds": seconds, "routes_per_s": 1e6 / seconds, "cpu_s": 1.0})
        for seconds_of in ({peers.RAW: 2.0, "bgpd": 2.2, "BIRD": 6.0}, {peers.RAW: 2.4, "bgpd": 2.6, "BIRD": 6.4})
        for name, seconds in seconds_of.items()
    ]
    runs.append(Run(case=LOAD_1M, contestant="FRR", failed="no session"))
    machine = {"kernel": "6.18", "cpu": "some", "cores": 2, "python": "3.11"}
    return Summary(
        [
            ResultFile(
                name="load",
                title="Load",
                machine=machine,
                versions={"BIRD": "2.0.12"},
                repeat=2,
                quick=False,
                taken_on="2026-01-01",
                runs=runs,
            )
        ]
    )


def test_targets_compare_medians_of_one_run() -> None:
    reached = {verdict.target: verdict for verdict in verdicts(example())}
    raw = reached["1M equal routes, one leaf: at most 1.3 x the raw kernel limit"]
    assert raw.ok
    assert raw.reached == pytest.approx(2.4 / 2.2)
    assert raw.beside == "raw kernel 2.2 s"
    bird = reached["1M equal routes, one leaf: at least 2.2 x faster than BIRD"]
    assert bird.ok
    assert bird.beside == "BIRD 6.2 s"
    assert "1M equal routes, one leaf: at least 8 x faster than FRR" not in reached


def test_tables_show_medians_ratios_and_failures() -> None:
    text = io.StringIO()
    report.show(Console(file=text, width=160), example())
    assert "2.4 s" in text.getvalue()
    assert "2.58" in text.getvalue()
    assert "no session" in text.getvalue()


def test_the_page_keeps_what_is_outside_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    parts = [f"{begin}\nold\n{end}\n" for begin, end in map(report.marks, ("in short", "losses", "figures"))]
    page.write_text("before\n" + "between\n".join(parts) + "after\n")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_page(example())
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count("between\n") == 2
    assert "old" not in text
    assert "| BIRD | 6.2 s |" in text


def test_what_a_reader_wants_to_know_comes_first_and_then_who_is_better() -> None:
    assert "| 2.4 s | 6.2 s |  |  |" in "".join(in_short(example()))
    assert "".join(losses(example())).endswith("| none | | | |\n")
    summary = example()
    for run in summary.files[0].runs:
        if run.contestant == "BIRD":
            run.figures["seconds"] = 0.05
    assert f"| {LOAD_1M} | 2.4 s | BIRD 50 ms | 0.02 |" in "".join(losses(Summary(summary.files)))


def test_memory_counts_for_each_table_of_a_million() -> None:
    (file,) = example().files
    for case, size in (("load 1M IPv4 /32, 1 leaf, 10k attribute sets", 200.0), ("load 10k IPv4 /32, 1 leaf", 70.0)):
        for name, figure in (("bgpd", size), ("BIRD", size / 2)):
            file.runs.append(Run(case=case, contestant=name, figures={"seconds": 1.0, "peak_mb": figure}))
    text = "".join(losses(Summary([file])))
    assert "| load 1M IPv4 /32, 1 leaf, 10k attribute sets | 200 MB | BIRD 100 MB | 0.50 |" in text
    assert "load 10k" not in text


def test_a_figure_that_ends_in_the_daemon_s_own_table_says_so() -> None:
    assert is_own_table(LOAD_1M, "OpenBGPD")
    assert is_own_table("evpn-load 100k, type 2", "FRR")
    assert not is_own_table(LOAD_1M, "FRR")
    assert not is_own_table("evpn-load 100k, type 2", "bgpd")


def test_a_chart_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    summary = example()
    assert charts.draw(summary, summary.files[0]) == tmp_path / "load.svg"
    assert (tmp_path / "load.svg").read_text().startswith("<?xml")
    assert charts.draw(Summary([]), summary.files[0]) is None


def test_results_are_kept_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (file,) = example().files
    results.save(file)
    assert results.load_all(quick=False) == [file]
    assert results.load_all(quick=True) == []


def test_more_runs_are_kept_with_those_before_and_others_with_those_of_other_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (file,) = example().files
    results.save(file)
    (again,) = example().files
    results.add_others(again)
    assert len(again.runs) == len(file.runs)
    results.add_others(again, same=True)
    assert len(again.runs) == 2 * len(file.runs)


def test_an_unknown_case_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["laod"])
    assert "no such case: laod" in capsys.readouterr().err


def test_an_unknown_contestant_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(["load", "--quick", "--contestant", "Bird"])
    assert caught.value.code == 2
    assert "no such contestant: Bird; there are raw kernel, bgpd, bgpd (plain), BIRD," in capsys.readouterr().err


def test_results_stay_where_nothing_is_chosen_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(program.os, "geteuid", lambda: 0)
    monkeypatch.setattr(program, "remove_stale", lambda prefix: None)
    (file,) = example().files
    results.save(file)
    assert program.main(["load", "--match", "no variant has this name"]) == 0
    assert "nothing to run of load" in capsys.readouterr().out
    assert results.load_all(quick=False) == [file]


def test_list_names_every_case_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list", "--quick"]) == 0
    shown = capsys.readouterr().out
    for word in (*program.CASES,):
        assert word in shown


def test_the_page_has_a_place_for_each_part_in_the_reader_s_order() -> None:
    text = report.PAGE.read_text()
    places = [text.index(mark) for name in ("in short", "losses", "figures") for mark in report.marks(name)]
    assert places == sorted(places)
