"""Variables: what they stand for, where they may stand, and what is said of each that stands for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.facts import Facts, machine_id
from bgpd.config.load import ConfigError, HostNotReady, Problem, parse_config
from bgpd.config.schema import Config

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
NEIGHBOR = '[[neighbor]]\nname = "leaf1"\naddress = "10.0.1.2"\nasn = 65201\nimport = "none"\n'
FACTS = Facts(
    hostname="node7",
    environment={
        "ASN": "65207",
        "RACK": "7",
        "QUOTES": 'a"\n[fib]\nmetric = 1\n#',
        "QUOTE": "a\"b'c\\",
        "NESTED": "${loopback4} $${",
        "EMPTY": "",
        "YES": "true",
        "BAD": "\udcff",
        "LIST": '["a"]',
    },
    read_loopback=lambda within: ("10.255.1.7", "2001:db8::7") if not within else ("", ""),
)


def parsed(text: str, facts: Facts = FACTS) -> Config:
    return parse_config(text, "x.toml", facts=facts)[0]


def said(text: str, facts: Facts = FACTS) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x.toml", facts=facts)
    (problem,) = caught.value.problems
    return str(problem)


def test_variables_stand_in_any_text() -> None:
    config = parsed(
        ROUTER.replace("10.255.1.1", "${loopback4}")
        + NEIGHBOR.replace("leaf1", "leaf-${env:RACK}-of-${hostname}").replace("10.0.1.2", "10.0.${env:RACK}.2")
        + '[policy.p]\nrules = [{ match = { prefix = ["${loopback4}/32", "${loopback6}/128"] } }]\n'
        + '[state]\ndirectory = "/var/lib/${hostname}"\n'
    )
    assert config.router.router_id == "10.255.1.7"
    assert (config.neighbor[0].name, config.neighbor[0].address) == ("leaf-7-of-node7", "10.0.7.2")
    assert config.policy["p"].rules[0].match.prefix == ("10.255.1.7/32", "2001:db8::7/128")
    assert config.state.directory == "/var/lib/node7"


@pytest.mark.parametrize(
    ("written", "asn"), [('"${env:ASN}"', 65207), ('"6520${env:RACK}"', 65207), ('"${env:RACK}"', 7)]
)
def test_where_a_number_is_wanted_it_becomes_one(written: str, asn: int) -> None:
    config = parsed(
        ROUTER.replace("65203", written) + NEIGHBOR.replace("65201", written).replace("leaf1", "${env:RACK}")
    )
    assert config.router.asn == config.neighbor[0].asn == asn
    assert config.neighbor[0].name == "7", "a text stays one"


def test_a_boolean_and_an_optional_number_are_read_too() -> None:
    text = ROUTER + NEIGHBOR + 'passive = "${env:YES}"\nmax_attribute_bytes = "${env:ASN}"\n'
    config = parsed(text + 'bfd = { interval_ms = "1${env:RACK}" }\n')
    assert config.neighbor[0].passive
    assert config.neighbor[0].max_attribute_bytes == 65207
    assert config.neighbor[0].bfd is not None
    assert config.neighbor[0].bfd.interval_ms == 17


def test_no_value_breaks_the_file_or_becomes_more_than_one_text() -> None:
    text = ROUTER + 'hostname = "${env:QUOTE}"\n'
    assert parsed(text).router.hostname == "a\"b'c\\"
    assert "cannot be printed" in said(ROUTER + 'hostname = "${env:QUOTES}"\n')
    assert "is the text" in said(ROUTER + '[workload.kernel]\ninterfaces = "${env:LIST}"\n')


def test_what_a_variable_stands_for_is_not_looked_at_again() -> None:
    assert parsed(ROUTER + 'hostname = "${env:NESTED}"\n').router.hostname == "${loopback4} $${"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$${hostname}", "${hostname}"),
        ("$$${hostname}", "$${hostname}"),
        ("$hostname", "$hostname"),
        ("$$", "$$"),
        ("{hostname}", "{hostname}"),
        ("$${", "${"),
        ("${hostname}$${x}${hostname}", "node7${x}node7"),
        ("${env:EMPTY}", ""),
    ],
)
def test_a_dollar_and_a_brace_can_be_written(written: str, meant: str) -> None:
    assert parsed(ROUTER + f'hostname = "{written}"\n').router.hostname == meant


def test_a_variable_in_a_comment_is_nothing() -> None:
    parsed(ROUTER + "# ${nothing} ${env:MISSING} ${\n")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("${", 'has "${" without "}"; write ${NAME}, or $${'),
        ("${hostname", 'has "${" without "}"'),
        ("x${host${env:RACK}}", 'has "${" without "}"'),
        ("${}", "there is no variable ${}; one of: hostname, loopback4, loopback6, env:NAME"),
        ("${hostnam}", 'there is no variable ${hostnam}; did you mean "hostname"?'),
        ("${ASN}", "there is no variable ${ASN}; write ${env:ASN}"),
        ("${env:}", "${env:} cannot be a variable"),
        ("${env:A B}", "${env:A B} cannot be a variable"),
        ("${env:MISSING}", "the environment has no variable MISSING; write MISSING=VALUE into /etc/bgpd/environment"),
        ("${env:BAD}", "${env:BAD} has characters that cannot be printed"),
    ],
)
def test_each_that_stands_for_nothing_is_told_with_line_and_key(value: str, what: str) -> None:
    for text, place in (
        (ROUTER + f'hostname = "{value}"\n', "x.toml:4: router.hostname: "),
        (ROUTER.replace("65203", f'"{value}"'), "x.toml:2: router.asn: "),
        (ROUTER + NEIGHBOR + f'password_file = "/{value}"\n', "x.toml:9: neighbor[0].password_file: "),
        (ROUTER + f'[fib]\nprotect = [\n"10.0.0.0/8",\n"{value}"]\n', "x.toml:7: fib.protect[1]: "),
    ):
        assert said(text).startswith(place + what)


def test_keys_have_no_variables() -> None:
    assert said(ROUTER + '[policy."${hostname}"]\n').startswith(
        "x.toml:4: policy.${hostname}: is a key with a variable"
    )


def test_a_loopback_that_is_missing_may_come_and_other_errors_may_not() -> None:
    bare = Facts(environment={"X": "1"}, read_loopback=lambda within: ("", ""))
    text = ROUTER.replace("10.255.1.1", "${loopback4}")
    with pytest.raises(
        HostNotReady, match=r"x\.toml:3: router\.router_id: this host has no IPv4 loopback address; add one"
    ):
        parse_config(text, "x.toml", facts=bare)
    with pytest.raises(HostNotReady, match="no IPv6 loopback address"):
        parse_config(ROUTER + 'hostname = "${loopback6}"', "x.toml", facts=bare)
    for more in ("[fib]\nmetric = 0\n", 'hostname = "${env:MISSING}"\n'):
        with pytest.raises(ConfigError) as caught:
            parse_config(text + more, "x.toml", facts=bare)
        assert not isinstance(caught.value, HostNotReady)


def test_what_is_given_by_hand_counts_first_and_what_the_daemon_has_last() -> None:
    text = ROUTER.replace("10.255.1.1", "${loopback4}") + 'hostname = "${env:RACK}${env:NEW}${hostname}"\n'
    facts = Facts(
        given={"loopback4": "10.255.9.9", "hostname": "other"},
        otherwise={"env:NEW": "new", "env:RACK": "no"},
        environment=FACTS.environment,
        hostname="node7",
    )
    router = parsed(text, facts).router
    assert (router.router_id, router.hostname) == ("10.255.9.9", "7newother")


def test_loopbacks_narrow_the_choice_and_have_no_variables_themselves() -> None:
    asked: list[Any] = []

    def read(within: Any) -> tuple[str, str]:
        asked.append(tuple(within))
        return ("10.255.1.7", "")

    facts = Facts(read_loopback=read)
    text = ROUTER.replace("10.255.1.1", "${loopback4}") + 'loopbacks = ["10.255.0.0/16"]\n'
    assert parsed(text, facts).router.router_id == "10.255.1.7"
    assert asked == [("10.255.0.0/16",)]
    assert said(text.replace("10.255.0.0/16", "10.255.0.1/16"), facts).startswith("x.toml:4: router.loopbacks[0]: ")
    assert said(ROUTER + 'loopbacks = ["${loopback4}/32"]\n').startswith(
        "x.toml:4: router.loopbacks: has a variable; it"
    )
    missing = said(text, FACTS)
    assert "no IPv4 loopback address inside 10.255.0.0/16 (router.loopbacks)" in missing


def test_the_kernel_that_gives_no_answer_has_no_loopback() -> None:
    assert "no IPv4 loopback address" in said(ROUTER.replace("10.255.1.1", "${loopback4}"), Facts())


@given(st.text(st.sampled_from("${}env:hostloopback46ASN \"'\\\n"), max_size=40))
def test_any_text_gives_a_configuration_or_problems(value: str) -> None:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    problems: list[Problem] = []
    try:
        config = parsed(ROUTER + f"hostname = {quoted}\n")
    except ConfigError as error:
        problems = error.problems
    else:
        assert "${" in value or config.router.hostname == value
    assert all(problem.line == 4 for problem in problems)


def test_the_machine_id_is_read_where_there_is_one(tmp_path: Any) -> None:
    assert machine_id(str(tmp_path)) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("uninitialized\n")
    assert machine_id(str(tmp_path)) == ""
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef" * 2 + "\n")
    assert machine_id(str(tmp_path)) == "0123456789abcdef" * 2
