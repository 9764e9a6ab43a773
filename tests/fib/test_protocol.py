"""Names of rtprotos are found in all files that iproute2 reads; a number of another program's is noticed."""

from __future__ import annotations

from pathlib import Path

from bgpd.fib.protocol import claimants_of, names_of, protocol_in_force, protocol_name
from bgpd.kernel.nexthop_messages import NexthopObject


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


def left(identifier: int, protocol: int) -> NexthopObject:
    return NexthopObject(id=identifier, protocol=protocol, gateway=b"\x0a\0\0\1", ifindex=2)


def no_routes(_protocol: int) -> bool:
    return False


def test_former_default_is_kept_while_a_run_with_it_left_nexthop_objects() -> None:
    assert protocol_in_force(217, [left(197_000_001, 197), left(5, 3)], no_routes) == 197
    assert protocol_in_force(217, [], no_routes) == 217


def test_former_default_is_kept_while_routes_of_workloads_bear_it() -> None:
    assert protocol_in_force(217, [], lambda number: number == 197) == 197


def test_objects_of_others_with_the_former_number_keep_nothing() -> None:
    """FRR's OpenFabric bears it too; its objects have other ids. An object with an id of bgpd's is not its by that."""
    assert protocol_in_force(217, [left(12, 197), left(197_000_001, 11)], no_routes) == 217


def test_present_default_is_kept_once_a_run_has_used_it() -> None:
    assert protocol_in_force(217, [left(197_500_001, 197), left(217_000_001, 217)], lambda _number: True) == 217


def test_configured_number_is_used_whatever_was_left() -> None:
    assert protocol_in_force(250, [left(197_000_001, 197)], lambda _number: True) == 250
    assert protocol_in_force(197, [left(217_000_001, 217)], no_routes) == 197
