"""bird.conf: what is converted, what is told, and what closes a neighbor."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import BfdConfig, GracefulRestartConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from bgpd.model.policy_syntax import AsPathPattern
from tests.migrate.converting import configured, imported, rules_of, written

KERNEL = "router id 10.0.0.1;\nprotocol kernel { ipv4 { export all; }; }\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured("bird", "bird.conf", settings=Settings(passwords=str(tmp_path)))


def session(directory: Path, channel: str, *, above: str = "") -> Path:
    body = f"protocol bgp leaf {{ local as 65001; neighbor 10.0.1.2 as 65201; ipv4 {{ {channel} }}; }}\n"
    return written(directory, KERNEL + above + body)


def test_sessions_with_their_template(config: Config, tmp_path: Path) -> None:
    assert (config.router.asn, config.router.router_id) == (65308, "10.255.3.8")
    leaf1, leaf2, collector = config.neighbor
    assert (leaf1.name, leaf1.address, leaf1.asn, leaf1.source_address) == ("leaf1", "10.0.1.2", 65201, "10.0.1.3")
    assert (leaf1.import_, leaf1.export, leaf1.hold_time_s, leaf1.max_prefixes) == ("from_leaf", "to_leaf", 9, 5000)
    assert leaf1.bfd == BfdConfig(interval_ms=150, multiplier=4)
    assert leaf1.graceful_restart == GracefulRestartConfig(mode="both", restart_time_s=90)
    assert Path(leaf1.password_file).read_text() == "s3cret one\n"
    assert (leaf2.address, leaf2.interface, leaf2.asn, leaf2.ttl_security) == ("fe80::1", "eth1", "external", True)
    assert (collector.asn, collector.import_, collector.export) == (65308, "none", "none")
    (vms,) = config.listen
    assert (vms.prefix, vms.max_prefixes, vms.max_prefixes_action) == ("10.64.9.0/28", 10, "discard")
    assert tmp_path.joinpath("leaf1.key").exists()


def test_filters_with_functions_and_constants(config: Config) -> None:
    fabric = ("10.64.0.0/12 ge 16 le 28", "0.0.0.0/0")
    six = ("2001:db8::/32 le 128", "::/0")
    drained = ("graceful-shutdown",)
    path = ("^([0-9]+ )*64999( [0-9]+)*$",)
    assert rules_of(config, "from_leaf") == (
        RuleConfig(match=MatchConfig(prefix=("127.0.0.0/8 le 32", "224.0.0.0/4 le 32")), action="reject"),
        RuleConfig(match=MatchConfig(as_path=("64512", "64513", "64514", "65535")), action="reject"),
        RuleConfig(match=MatchConfig(community=drained, prefix=fabric), set=SetConfig(local_pref=10)),
        RuleConfig(match=MatchConfig(community=drained, prefix=six, as_path=path), action="reject"),
        RuleConfig(match=MatchConfig(community=drained, prefix=six), set=SetConfig(local_pref=10, med=5)),
        RuleConfig(match=MatchConfig(community=drained), action="reject"),
        RuleConfig(match=MatchConfig(prefix=fabric)),
        RuleConfig(match=MatchConfig(prefix=six, as_path=path), action="reject"),
        RuleConfig(match=MatchConfig(prefix=six), set=SetConfig(med=5)),
    )
    changed = SetConfig(add_large_community=("65308:1:7",), prepend=1)
    assert rules_of(config, "to_leaf") == (RuleConfig(match=MatchConfig(as_path=("^$",)), set=changed),)


def test_own_addresses_routes_and_the_kernel(config: Config) -> None:
    assert config.workload.addresses is not None
    assert config.workload.addresses.interfaces == ("lo", "dummy*")
    assert [(one.prefix, one.interface) for one in config.workload.static] == [("10.64.8.5/32", "lo")]
    assert config.fib.preferred_source == ("10.255.3.8",)
    assert config.aggregate == (), "a block that BIRD has always is for a person to decide"


def test_everything_that_is_not_converted_is_told_with_its_line() -> None:
    losses = imported("bird", "bird.conf").losses
    for line, words in (
        (33, "blackhole"),
        (86, "rr client"),
        (89, "bgp_path.len"),
        (74, "pass"),
    ):
        assert any(f"bird.conf:{line}: " in loss and words in loss for loss in losses), (line, words)
    assert "s3cret" not in "".join(losses) + imported("bird", "bird.conf").text


@pytest.mark.parametrize(
    "channel",
    [
        "import filter gone; export none;",
        "import where bgp_path.len < 3; export none;",
        "import where bgp_community ~ [(65000, *)]; export none;",
        "import filter { case net.type { NET_IP4: accept; else: reject; } }; export none;",
        "import filter { int x = 3; accept; }; export none;",
        "import where roa_check(r4, net, bgp_path.last) = ROA_VALID; export none;",
        "import where (65000, 1) ~ bgp_community && (65000, 2) ~ bgp_community; export none;",
        "import filter { bgp_community.delete((65000, 1)); if (65000, 1) ~ bgp_community then accept; reject; };",
        'import filter { if ifname ~ "eth*" then accept; reject; }; export none;',
        "import filter { bgp_path.prepend(65999); accept; }; export none;",
    ],
)
def test_a_filter_that_cannot_be_said_lets_nothing_through(tmp_path: Path, channel: str) -> None:
    file = session(tmp_path, channel)
    assert configured("bird", file).neighbor[0].import_ == "none"
    assert any("import of protocol leaf cannot be converted" in loss for loss in imported("bird", file).losses)


@pytest.mark.parametrize(
    ("channel", "policies"),
    [
        ("import all; export none;", ("all", "none")),
        ("import all; export all;", ("all", "local")),
        ("import none; export where source = RTS_STATIC;", ("none", "local")),
        ("import all; export where source ~ [ RTS_STATIC, RTS_DEVICE ];", ("all", "local")),
        ("import all; export where source != RTS_BGP;", ("all", "local")),
        ("", ("none", "none")),
        ("import limit 10; export table on;", ("none", "none")),
        ("import filter { if true then accept; }; export filter { reject; };", ("all", "none")),
    ],
)
def test_what_a_built_in_policy_says_gets_its_name(tmp_path: Path, channel: str, policies: tuple[str, str]) -> None:
    (leaf,) = configured("bird", session(tmp_path, channel)).neighbor
    assert (leaf.import_, leaf.export) == policies


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("local role customer;", ("customer", False)),
        ("local role rs_server; require roles yes;", ("rs", True)),
        ("local role rs_client; require roles off;", ("rs-client", False)),
    ],
)
def test_roles(tmp_path: Path, said: str, role: tuple[str, bool]) -> None:
    body = f"protocol bgp leaf {{ local as 65001; neighbor 10.0.1.2 as 65201; {said} ipv4 {{ import all; }}; }}\n"
    (leaf,) = configured("bird", written(tmp_path, "router id 10.0.0.1;\n" + body)).neighbor
    assert (leaf.role, leaf.role_strict) == role


def test_without_a_kernel_protocol_nothing_is_installed(tmp_path: Path) -> None:
    body = "router id 10.0.0.1; protocol bgp a { local as 65001; neighbor 10.0.1.2 as 65201; ipv4 { import all; }; }"
    assert configured("bird", written(tmp_path, body)).neighbor[0].import_ == "none"
    assert any("installs nothing" in loss for loss in imported("bird", written(tmp_path, body)).losses)


@pytest.mark.parametrize(
    ("kernel", "policy"),
    [
        ("export all;", "all"),
        ("export filter { if source = RTS_DEVICE then reject; krt_prefsrc = 10.0.0.9; accept; };", "all"),
        ("export where source = RTS_BGP;", "all"),
        ("export where source = RTS_STATIC;", "none"),
        ("export filter { if net ~ [ 10.0.0.0/8+ ] then accept; };", "leaf-import"),
        ("export where bgp_path.len < 3;", "none"),
    ],
)
def test_what_the_kernel_protocol_does_not_take_is_not_imported(tmp_path: Path, kernel: str, policy: str) -> None:
    body = "protocol bgp leaf { local as 65001; neighbor 10.0.1.2 as 65201; ipv4 { import all; export none; }; }\n"
    file = written(tmp_path, f"router id 10.0.0.1;\nprotocol kernel {{ ipv4 {{ {kernel} }}; }}\n{body}")
    config = configured("bird", file)
    assert config.neighbor[0].import_ == policy
    if policy == "leaf-import":
        assert rules_of(config, policy) == (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 le 32",))),)


def test_routes_of_another_table_are_not_mixed_with_the_main_one(tmp_path: Path) -> None:
    (leaf,) = configured("bird", session(tmp_path, "table tenants; import all; export all;")).neighbor
    assert (leaf.import_, leaf.export) == ("none", "none")
    in_vrf = 'protocol bgp t { vrf "blue"; local as 65001; neighbor 10.0.1.2 as 65201; ipv4 { import all; }; }\n'
    file = written(tmp_path, KERNEL + in_vrf)
    assert configured("bird", file).neighbor == ()
    assert '#address = "10.0.1.2"' in imported("bird", file).text


@pytest.mark.parametrize(
    ("mask", "matched", "others"),
    [
        ("65001 *", ("65001", "65001 65002"), ("65002 65001", "650010", "")),
        ("* 65001", ("65001", "65002 65001"), ("65001 65002", "165001")),
        ("* 65001 *", ("65001", "1 65001 2", "65001 3"), ("65002", "1 650012")),
        ("65001 * 65003", ("65001 65003", "65001 7 8 65003"), ("65001", "65003 65001")),
        ("? 65001", ("7 65001",), ("65001", "6 7 65001")),
        ("", ("",), ("65001",)),
    ],
)
def test_masks_over_as_paths(tmp_path: Path, mask: str, matched: tuple[str, ...], others: tuple[str, ...]) -> None:
    config = configured("bird", session(tmp_path, f"import where bgp_path ~ [= {mask} =]; export none;"))
    ((rule),) = rules_of(config, config.neighbor[0].import_)
    pattern = AsPathPattern(rule.match.as_path[0])
    assert [pattern.matches(text) for text in matched] == [True] * len(matched)
    assert [pattern.matches(text) for text in others] == [False] * len(others)


def test_patterns_of_prefixes(tmp_path: Path) -> None:
    channel = "import where net ~ [ 10.0.0.0/8+, 10.1.0.0/16{20,24}, 10.0.0.0/7- ] && net.len >= 3; export none;"
    config = configured("bird", session(tmp_path, channel))
    (rule,) = rules_of(config, config.neighbor[0].import_)
    assert set(rule.match.prefix) == {
        "10.0.0.0/8 le 32",
        "10.1.0.0/16 ge 20 le 24",
        "0.0.0.0/3",
        "0.0.0.0/4",
        "8.0.0.0/5",
        "8.0.0.0/6",
        "10.0.0.0/7",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("protocol bgp x {\n local as 1;\n", r"given\.conf:1: \"{\" is never closed"),
        ("log syslog all;\n}\n", r'given\.conf:2: "}" without'),
        ("log syslog all", r"given\.conf:1: .*does not end"),
        ('router id 1.2.3.4;\ninclude "gone.conf";\n', r"given\.conf:2: includes"),
        ("protocol bgp x from gone { }\n", r'given\.conf:1: there is no template "gone"'),
        ("define X = 1;\nlog \x07;\n", r"given\.conf:2: "),
        ("router id 1.2.3.4;\n", "has no protocol bgp"),
        ("protocol bgp x { neighbor 1.2.3.4 as 3; }\n", "its own AS number"),
        ("{" * 5000, "nested"),
        ("(" * 100_000 + ";", "does not end"),
        ("", "is empty"),
        ("\0", "no text"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImportFailed, match=said):
        imported("bird", written(tmp_path, text))


def test_includes_that_go_round_are_told(tmp_path: Path) -> None:
    written(tmp_path, 'include "b.conf";\n', "a.conf")
    written(tmp_path, '# head\ninclude "a.conf";\n', "b.conf")
    with pytest.raises(ImportFailed, match=r"b\.conf:2: .*includes itself"):
        imported("bird", tmp_path / "a.conf")


def test_constants_that_grow_without_end_are_told(tmp_path: Path) -> None:
    lines = ["define A0 = [ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ];"]
    lines += [f"define A{n} = [ {', '.join([f'A{n - 1}'] * 10)} ];" for n in range(1, 9)]
    with pytest.raises(ImportFailed, match=r"too long|more than"):
        imported("bird", written(tmp_path, "\n".join(lines)))


def test_functions_that_call_themselves_close_the_neighbor(tmp_path: Path) -> None:
    file = session(tmp_path, "import where f(); export none;", above="function f() { return f(); }\n")
    assert configured("bird", file).neighbor[0].import_ == "none"
