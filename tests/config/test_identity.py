"""asn = "auto" and router_id = "auto": what they stand for, when that stays, and when it is chosen anew."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.config.facts import Facts
from bgpd.config.identity import FILE, HASH_BLOCK, read_identity
from bgpd.config.load import ConfigError, Loaded, load_config, parse_config
from bgpd.identity import OwnIdentity
from bgpd.model.identity import Chosen, Identity, Origin

AUTO = '[router]\nasn = "auto"\nrouter_id = "auto"\n'
MACHINE = "0123456789abcdef" * 2
OTHER = "f" * 32


def facts(*loopbacks: str, machine_id: str = MACHINE, hostname: str = "node7") -> Facts:
    def read(within: Any) -> tuple[str, str]:
        networks = [ipaddress.ip_network(one) for one in within]
        fit = [one for one in loopbacks if not networks or any(ipaddress.ip_address(one) in net for net in networks)]
        return min(fit, key=ipaddress.ip_address, default=""), ""

    return Facts(hostname=hostname, machine_id=machine_id, read_loopback=read)


class Host:
    """Starts and reloads of one host: what it had chosen is kept in a directory."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "bgpd.toml"
        self.state = directory / "state"

    def loaded(self, found: Facts, text: str = AUTO, *, identity: Identity | None = None) -> Loaded:
        self.file.write_text(f'{text}[state]\ndirectory = "{self.state}"\n')
        return load_config(str(self.file), facts=found, identity=identity)

    def start(self, found: Facts, text: str = AUTO) -> tuple[int, str, list[str]]:
        """AS number, router ID, and the warnings about them."""
        loaded = self.loaded(found, text)
        keeper = OwnIdentity(str(self.state), loaded.identity)
        keeper.keep()
        assert keeper.error == ""
        router = loaded.config.router
        return router.asn, router.router_id, [str(one) for one in loaded.warnings if one.path.startswith("router")]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_loopback_address_is_the_router_id_and_the_place_in_the_range(host: Host) -> None:
    number = int(ipaddress.IPv4Address("10.255.1.1"))
    asn, router_id, warnings = host.start(facts("10.255.1.1"))
    assert (asn, router_id, warnings) == (4_200_000_000 + number % 94_967_295, "10.255.1.1", [])
    ranged = AUTO + 'asn_range = "64512-65534"\n'
    assert host.start(facts("10.255.1.1"), ranged)[0] == 64512 + number % 1023


def test_hosts_of_one_block_of_loopbacks_have_different_numbers(host: Host) -> None:
    text = AUTO + 'asn_range = "64512-64574"\n'
    found = {parse_config(text, "x", facts=facts(f"10.255.0.{at}"))[0].router.asn for at in range(1, 64)}
    assert len(found) == 63


def test_without_a_loopback_it_is_a_hash_that_is_no_odd_address() -> None:
    seen = set()
    for number in range(60):
        router = parse_config(AUTO, "x", facts=facts(hostname=f"node{number}"))[0].router
        assert ipaddress.ip_address(router.router_id) in HASH_BLOCK
        assert router.router_id not in ("10.0.0.0", "10.255.255.255")
        assert 4_200_000_000 <= router.asn <= 4_294_967_294
        seen.add((router.asn, router.router_id))
    assert len(seen) == 60, "copies with one machine ID have other names"
    first, second = (parse_config(AUTO, "x", facts=facts(machine_id=one))[0].router for one in (MACHINE, OTHER))
    assert first.router_id != second.router_id
    assert (
        parse_config(AUTO, "x", facts=facts(machine_id=""))[0].router
        == parse_config(AUTO, "x", facts=facts(machine_id=""))[0].router
    )


def test_a_loopback_that_comes_late_or_goes_changes_nothing_and_is_told(host: Host) -> None:
    asn, router_id, warnings = host.start(facts())
    assert warnings == []
    late = host.start(facts("10.255.1.1"))
    assert late[:2] == (asn, router_id)
    assert (
        f'router.router_id: is "auto": {router_id} is kept, made from a hash of the machine ID; from the' in late[2][1]
    )
    assert f"10.255.1.1: remove {host.state}/{FILE} and restart bgpd" in late[2][1]
    (host.state / FILE).unlink()
    asn, router_id, _ = host.start(facts("10.255.1.1"))
    assert router_id == "10.255.1.1"
    assert host.start(facts()) == (asn, router_id, []), "one that is not there (yet) is no reason for a warning"


def test_a_lower_address_beside_the_loopback_changes_nothing(host: Host) -> None:
    before = host.start(facts("10.255.1.1"))
    after = host.start(facts("10.100.0.53", "10.255.1.1"))
    assert after[:2] == before[:2]
    assert "router_id" in after[2][1]


def test_another_loopback_is_another_host(host: Host) -> None:
    before = host.start(facts("10.255.1.1"))
    after = host.start(facts("10.255.1.2"))
    assert after[1] == "10.255.1.2"
    assert after[0] == before[0] + 1
    assert 'router.router_id: is "auto": it is 10.255.1.2 now, and was 10.255.1.1' in after[2][1]
    assert host.start(facts("10.255.1.2"))[2] == []


def test_a_copied_disk_is_another_host(host: Host) -> None:
    before = host.start(facts())
    after = host.start(facts(machine_id=OTHER))
    assert after[1] != before[1]
    assert host.start(facts(machine_id=OTHER)) == (*after[:2], [])
    assert host.start(facts(machine_id=""))[:2] == after[:2], "not known is no reason"
    assert host.start(facts(machine_id=OTHER, hostname="renamed"))[:2] == after[:2]


def test_without_a_machine_id_the_name_counts(host: Host) -> None:
    before = host.start(facts(machine_id=""))
    assert host.start(facts(machine_id=""))[:2] == before[:2]
    assert host.start(facts(machine_id="", hostname="node8"))[:2] != before[:2]


def test_another_range_is_chosen_from_anew(host: Host) -> None:
    router_id = host.start(facts())[1]
    other = host.start(facts(), AUTO + 'asn_range = "64512-65534"\n')
    assert 64512 <= other[0] <= 65534
    assert other[1] == router_id


def test_what_is_configured_meanwhile_is_remembered(host: Host) -> None:
    asn, router_id, _ = host.start(facts())
    assert host.start(facts("10.255.1.1"), '[router]\nasn = 65203\nrouter_id = "auto"\n')[:2] == (65203, router_id)
    assert host.start(facts("10.255.1.1"))[:2] == (asn, router_id)


def test_a_daemon_that_runs_keeps_what_it_has_whatever_becomes_of_the_file(host: Host) -> None:
    loaded = host.loaded(facts())
    again = host.loaded(facts("10.255.1.1"), identity=loaded.identity)
    assert again.config.router == loaded.config.router
    assert again.identity == loaded.identity


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"asn": 3}',
        b'{"router_id": {"value": "10.0.0.1", "origin": "x", "of": ""}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_told_and_written_anew(host: Host, body: bytes) -> None:
    host.state.mkdir()
    (host.state / FILE).write_bytes(body)
    asn, router_id, warnings = host.start(facts("10.255.1.1"))
    assert router_id == "10.255.1.1"
    assert "what was chosen before cannot be read" in warnings[0]
    assert host.start(facts("10.255.1.1")) == (asn, router_id, [])


@pytest.mark.parametrize("value", ["", "0.0.0.0", "node1", "1.2.3", "224.0.0.9", "255.255.255.255"])
def test_a_saved_value_that_is_none_is_not_taken(host: Host, value: str) -> None:
    host.state.mkdir()
    bad = Chosen(value=value, origin=Origin.LOOPBACK, of="10.255.1.1")
    bad_asn = Chosen(value=value or "7", origin=Origin.LOOPBACK, of="10.255.1.1", asn_range="4200000000-4294967294")
    (host.state / FILE).write_bytes(msgspec.json.encode(Identity(asn=bad_asn, router_id=bad)))
    asn, router_id, _ = host.start(facts("10.255.1.1"))
    assert router_id == "10.255.1.1"
    assert asn >= 4_200_000_000


def test_a_directory_that_cannot_be_written_is_told(host: Host) -> None:
    host.state.write_text("a file")
    keeper = OwnIdentity(str(host.state), host.loaded(facts("10.255.1.1")).identity)
    keeper.keep()
    assert "after a restart asn and router_id may be others" in keeper.error
    assert read_identity(str(host.state)) == (Identity(), "")


def test_only_a_first_choice_without_a_loopback_is_early(host: Host) -> None:
    assert host.loaded(facts()).is_early
    assert not host.loaded(facts("10.255.1.1")).is_early
    host.start(facts())
    assert not host.loaded(facts()).is_early


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            AUTO.replace('"auto"', '"automatic"', 1),
            'x:2: router.asn: is the text "automatic"; must be a whole number or "auto"',
        ),
        (AUTO + 'asn_range = "all"\n', 'x:4: router.asn_range: "all" is no range'),
        (AUTO + 'asn_range = "9-1"\n', 'x:4: router.asn_range: "9-1" is no range'),
        (AUTO + 'asn_range = "1-4294967295"\n', "x:4: router.asn_range: "),
        (
            AUTO + 'asn_range = "64512-65535"\n',
            'x:4: router.asn_range: "64512-65535" has 65535 in it, which is reserved',
        ),
        (AUTO + "asn_range = 7\n", "x:4: router.asn_range: is the number 7"),
        (
            AUTO.replace('router_id = "auto"', 'router_id = "automatic"'),
            'x:3: router.router_id: "automatic" is not an IPv4',
        ),
    ],
)
def test_bad_input_is_told_once(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x", facts=facts())
    (problem,) = caught.value.problems
    assert str(problem).startswith(place)
