"""Names of rtprotos are found in all files that iproute2 reads; a number of another program's is noticed."""

from __future__ import annotations

from pathlib import Path

from bgpd.fib.protocol import claimants_of, names_of, protocol_name


def test_names_come_from_the_table_and_from_the_folder_of_other_programs(tmp_path: Path) -> None:
    folder = tmp_path / "etc/iproute2/rt_protos.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/iproute2/rt_protos").write_text("# comment\n2\tkernel\n12 bird # routes\n")
    (folder / "bgpd.conf").write_text("197\tbgpd\n")
    (folder / "frr.conf").write_text("197  openfabric\n186 bgp\n")
    (folder / "README").write_text("197 nothing\n")
    assert names_of(197, root=str(tmp_path)) == ["bgpd", "openfabric"]
    assert names_of(12, root=str(tmp_path)) == ["bird"]
    assert names_of(250, root=str(tmp_path)) == []
    assert names_of(250, root=str(tmp_path / "nowhere")) == []


def test_number_of_frr_is_claimed_only_while_its_zebra_runs(tmp_path: Path) -> None:
    folder = tmp_path / "etc/iproute2/rt_protos.d"
    folder.mkdir(parents=True)
    (folder / "bgpd.conf").write_text("197\tbgpd\n")
    (folder / "frr.conf").write_text("197  openfabric\n")
    (folder / "other.conf").write_text("217  other\n")
    root = str(tmp_path)
    assert claimants_of(197, root=root) == []
    assert claimants_of(217, root=root) == ["other"]
    (tmp_path / "run/frr/ns1").mkdir(parents=True)
    (tmp_path / "run/frr/ns1/zserv.api").touch()
    assert claimants_of(197, root=root) == ["openfabric"]
    assert claimants_of(250, root=root) == []


def test_own_number_is_shown_as_bgpd_whatever_others_call_it() -> None:
    assert protocol_name(197, 197) == "bgpd"
    assert protocol_name(2, 197) == "kernel"
    assert protocol_name(251, 197) == "251"
