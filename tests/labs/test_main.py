"""The laboratory's command line, and laboratories from end to end: they pass and leave nothing behind."""

from __future__ import annotations

import os
import sqlite3
import tarfile
from pathlib import Path

import pytest

from labs.__main__ import TOPOLOGIES, main
from labs.namespace import NETNS_DIR

pytestmark = pytest.mark.netns


def namespaces() -> set[str]:
    """This process's own: other laboratories may run at the same time."""
    return {path.name for path in NETNS_DIR.glob(f"lab{os.getpid()}-*")}


def test_file_that_cannot_be_read_is_told_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "gone.clab.yml")]) == 2
    assert "gone.clab.yml: No such file" in capsys.readouterr().out


def test_topology_whose_daemon_refuses_its_configuration_exits_with_2_and_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frr.conf").write_text("nonsense\n")
    (tmp_path / "bad.clab.yml").write_text("""
name: bad
topology:
  nodes:
    leaf: {kind: linux, binds: ["frr.conf:/etc/frr/frr.conf"]}
""")
    before = namespaces()
    assert main(["run", str(tmp_path / "bad.clab.yml")]) == 2
    assert "Unknown command" in capsys.readouterr().out
    assert namespaces() <= before


@pytest.mark.parametrize("name", ["feeds", "evpn-two-tenant", pytest.param("faults", marks=pytest.mark.long), "guests"])
def test_laboratory_passes_all_its_checks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", str(TOPOLOGIES / f"{name}.clab.yml")])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "all checks passed" in said


def test_two_leaf_laboratory_passes_with_the_page_open_and_leaves_behind_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["run", "--see", str(tmp_path), str(TOPOLOGIES / "two-leaf.clab.yml")])
    said = capsys.readouterr().out
    assert code == 0, said
    pictures = {file.stem for file in tmp_path.glob("*.png") if file.stat().st_size > 10_000}
    assert {"all-is-well", "link-cut", "leaf-dead", "draining", "explain", "journal", "before-it-broke"} <= pictures
    assert "drain.ordered" in (tmp_path / "events.txt").read_text()
    with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
        assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with tarfile.open(tmp_path / "bundle-host1.tar.gz") as bundle:
        assert len(bundle.getnames()) > 5


@pytest.mark.long
@pytest.mark.vm
def test_two_tenants_by_evpn_have_vrf_and_vlan_devices_where_the_kernel_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["run", str(TOPOLOGIES / "evpn-two-tenant.clab.yml")])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "veth pairs take their place" not in said
