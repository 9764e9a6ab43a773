"""[[workload.bgp]]: bad input is told with line and reason, and what a change costs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.config.effects import config_diff
from bgpd.config.load import ConfigError, parse_config
from bgpd.config.schema import Config
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import dynamic_name, range_of, section_of
from bgpd.model.prefix import parse_address
from bgpd.model.source import Source, SourceKind

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
LEAF = '[[neighbor]]\nname = "leaf1"\naddress = "10.0.1.2"\nasn = 65201\nimport = "default-only"\n'
GUEST = (
    '[[workload.bgp]]\nname = "one"\naddress = "127.0.0.2"\nasn = "external"\nprefixes = ["10.9.0.0/24 le 32"]\n'
    "max_prefixes = 10\n"
)
RANGE = GUEST.replace('"one"', '"many"').replace('"127.0.0.2"', '"10.70.0.0/24"')
GOOD = ROUTER + LEAF + GUEST + RANGE


def parse(text: str) -> tuple[Config, list[str]]:
    config, warnings = parse_config(text, "x.toml")
    return config, [f"{one.path}: {one.what}" for one in warnings]


def errors(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [(problem.path.rpartition(".")[2], problem.what) for problem in caught.value.problems]


def test_good_configuration_has_no_warning() -> None:
    config, warnings = parse(GOOD)
    assert warnings == []
    assert [guest.is_single for guest in config.workload.bgp] == [True, False]
    assert config.workload.bgp[0].graceful_restart.mode == "helper"


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ('prefixes = ["10.9.0.0/24 le 32"]\n', "", "prefixes", "is missing"),
        ('"10.9.0.0/24 le 32"', "", "prefixes", "empty list"),
        ('"10.9.0.0/24 le 32"', '"10.9.0.0/24 le 33"', "prefixes[0]", "lengths must rise"),
        ('"10.9.0.0/24 le 32"', '"0.0.0.0/0"', "prefixes[0]", "the default route"),
        ("max_prefixes = 10\n", "", "max_prefixes", "is missing"),
        ("max_prefixes = 10", "max_prefixes = 0", "max_prefixes", "is 0"),
        ('name = "one"', 'name = "leaf1"', "name", "already the name of neighbor[0]"),
        ('name = "one"', 'name = "many"', "name", "already the name of workload.bgp[0]"),
        ('name = "one"', 'name = "a/b"', "name", "cannot be a name"),
        ('"127.0.0.2"', '"127.0.0.300"', "address", "is not an IP address"),
        ('"127.0.0.2"', '"127.0.0.2/8"', "address", "host bits"),
        ('"127.0.0.2"', '"0.0.0.0/0"', "address", "is everybody"),
        ('"127.0.0.2"', '"fe80::1"', "address", "has no interface"),
        ('"127.0.0.2"', '"10.0.1.2"', "address", "is also of neighbor leaf1"),
        ('"127.0.0.2"', '"10.70.0.5"', "address", "is also of workload.bgp[0]"),
        ("max_prefixes = 10", 'max_prefixes = 10\nexport = "all"', "export", "the routes of the fabric"),
        ("max_prefixes = 10", 'max_prefixes = 10\nnext_hop = "self"', "next_hop", '"self"'),
        ("max_prefixes = 10", 'max_prefixes = 10\nfamilies = ["l2vpn-evpn"]', "families[0]", "is not for guests"),
        ("max_prefixes = 10", 'max_prefixes = 10\nvrf = "blue"', "vrf", "there is no VRF"),
        ("max_prefixes = 10", "max_prefixes = 10\nbfd = { strict = true }", "strict", "strict is for [[neighbor]]"),
        ("max_prefixes = 10", "max_prefixes = 10\naccept_martians = true", "accept_martians", "loopback"),
        ("max_prefixes = 10", 'max_prefixes = 10\nsource_address = "::1"', "source_address", "not of the same IP"),
        ("max_prefixes = 10", 'max_prefixes = 10\npassword_file = "/nowhere"', "password_file", "/nowhere"),
        ("max_prefixes = 10", 'max_prefixes = 10\nimport = "none-such"', "import", "there is no policy"),
        ("max_prefixes = 10", "max_prefixes = 10\nhold_time_s = 0", "hold_time_s", "less than min_hold_time_s"),
    ],
)
def test_bad_input_is_told(old: str, new: str, key: str, what: str) -> None:
    text = ROUTER + LEAF + RANGE + GUEST.replace(old, new)
    assert any(path.endswith(key) and what in found for path, found in errors(text)), errors(text)


def test_no_other_session_may_be_named_as_a_guest_of_a_range() -> None:
    """Views, filters and the RIB know a session by its name."""
    taken = "may be the name of a guest of workload.bgp[0]"
    for text in (GUEST.replace('"one"', '"many-10.70.0.5"'), LEAF.replace('"leaf1"', '"many-10.70.0.5"')):
        ((path, what),) = errors(ROUTER + RANGE + text)
        assert (path, what) == ("name", f'"many-10.70.0.5" {taken} ("10.70.0.0/24")')
    link = RANGE.replace('"10.70.0.0/24"', '"fe80::/64"\ninterface = "veth0"')
    ((_, what),) = errors(ROUTER + link + LEAF.replace('"leaf1"', '"many-fe80::5%veth0"'))
    assert taken in what
    for free in ("many-10.71.0.5", "many-web", "many-10.70.0.5-eth0"):
        parse(ROUTER + RANGE + GUEST.replace('"one"', f'"{free}"'))


def test_guests_of_one_address_are_told_apart_by_port_or_by_what_they_dial() -> None:
    other = GUEST.replace('"one"', '"two"')
    assert "address" in dict(errors(ROUTER + GUEST + other))
    parse(ROUTER + GUEST + other + "port = 1790\n")
    parse(ROUTER + GUEST + 'source_address = "127.0.0.9"\n' + other + 'source_address = "127.0.0.8"\n')


def test_guests_that_differ_only_by_what_they_dial_have_one_key(tmp_path: Path) -> None:
    """The kernel looks a key up by the peer: the second one would take the first one's place."""
    files = []
    for name in ("a", "b"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
        files.append(f'password_file = "{tmp_path / name}"\n')
    first = GUEST + 'source_address = "127.0.0.9"\n'
    second = GUEST.replace('"one"', '"two"') + 'source_address = "127.0.0.8"\n'
    parse(ROUTER + first + files[0] + second + files[0])
    for mine, theirs in ((files[0], files[1]), (files[0], ""), ("", files[1])):
        (found,) = errors(ROUTER + first + mine + second + theirs)
        assert found[0] == "password_file"
        assert found[1] == "is another password or key than that of workload.bgp[0], for the same address and port"


def test_prefixes_that_permit_everything_or_nothing_are_warned_of() -> None:
    _, warnings = parse(ROUTER + LEAF + GUEST.replace("10.9.0.0/24 le 32", "0.0.0.0/0 le 32"))
    assert any("permits all prefixes" in one for one in warnings)
    _, warnings = parse(ROUTER + LEAF + GUEST + 'families = ["ipv6-unicast"]\n')
    assert any("is ipv4-unicast, which is not in families" in one for one in warnings)


def test_a_connection_belongs_to_the_guest_of_its_port_and_local_address() -> None:
    port = GUEST.replace('"one"', '"two"') + "port = 1790\n"
    local = GUEST.replace('"one"', '"three"') + 'port = 1791\nsource_address = "127.0.0.9"\n'
    ranges = parse(ROUTER + GUEST + port + local)[0].ranges
    address, other = parse_address("127.0.0.2"), parse_address("127.0.0.9")
    assert range_of(ranges, address, "", port=179) is ranges[0]
    assert range_of(ranges, address, "", port=1790) is ranges[1]
    assert range_of(ranges, address, "", port=1791, local=address) is None
    assert range_of(ranges, address, "", port=1791, local=other) is ranges[2]
    assert range_of(ranges, parse_address("127.0.0.3"), "", port=179) is None


@pytest.mark.parametrize(("name", "index"), [("one", 0), ("many-10.70.0.5", 1), ("many-more", None), ("many", None)])
def test_a_session_has_the_section_of_its_guest(name: str, index: int | None) -> None:
    config = parse(GOOD)[0]
    source = Source(name=name, kind=SourceKind.EBGP, address=parse_address("192.0.2.1"), guest="x")
    expected = None if index is None else config.workload.bgp[index]
    assert section_of(config.rib, source) is expected
    if expected is not None and not expected.is_single:
        assert dynamic_name(expected, parse_address("10.70.0.5")) == name


@pytest.mark.parametrize(
    ("old", "new", "path", "effect"),
    [
        ('"10.9.0.0/24 le 32"', '"10.9.0.0/25 le 32"', "workload.bgp.one.prefixes", "refresh"),
        ("max_prefixes = 10", "max_prefixes = 11", "workload.bgp.one.max_prefixes", "no-op"),
        ("max_prefixes = 10", 'max_prefixes = 10\ncommunities = "keep"', "workload.bgp.one.communities", "refresh"),
        ("max_prefixes = 10", 'max_prefixes = 10\nnext_hop = "local"', "workload.bgp.one.next_hop", "reset"),
        ('"127.0.0.2"', '"127.0.0.3"', "workload.bgp.one.address", "reset"),
        ('"external"', "64512", "workload.bgp.one.asn", "reset"),
    ],
)
def test_a_change_concerns_one_guest(old: str, new: str, path: str, effect: str) -> None:
    (change,) = config_diff(parse(GOOD)[0], parse(ROUTER + LEAF + GUEST.replace(old, new) + RANGE)[0])
    assert (change.path, change.effect, change.neighbors) == (path, effect, ["one"])


def test_a_guest_comes_and_goes() -> None:
    with_one, without = parse(GOOD)[0], parse(ROUTER + LEAF + RANGE)[0]
    (change,) = config_diff(without, with_one)
    assert (change.path, change.change, change.effect) == ("workload.bgp.one", "added", "no-op")
    (change,) = config_diff(with_one, without)
    assert (change.path, change.change, change.effect) == ("workload.bgp.one", "removed", "reset")


def test_password_that_cannot_be_read_ends_no_session_of_a_guest(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    text = GOOD.replace("max_prefixes = 10\n", f'max_prefixes = 10\npassword_file = "{file}"\n', 1)
    former = parse(text)[0]
    file.unlink()
    config, warnings = parse_config(text, "x.toml", running=True, former=former)
    assert [one.path for one in warnings] == ["workload.bgp[0].password_file"]
    assert config == former
    other = text.replace('"127.0.0.2"', '"127.0.0.3"')
    with pytest.raises(ConfigError, match="would have to begin anew"):
        parse_config(other, "x.toml", running=True, former=former)


def test_a_guest_is_saved_for_the_next_process_as_it_is() -> None:
    for guest in parse(GOOD)[0].workload.bgp:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(guest), type=GuestConfig) == guest
