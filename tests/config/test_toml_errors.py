"""Texts that are no TOML: the line, a mark below the place, and one hint; never more than a ConfigError."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgpd.config.load import ConfigError, Problem, load_config, parse_config

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'


def problem_of(text: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "bgpd.toml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("line", "hint", "marked"),
    [
        ("hostname = node1", 'write hostname = "node1"', "n"),
        ("hostname = host.example.com", 'write hostname = "host.example.com"', "h"),
        ("address = 10.0.1.2", 'write address = "10.0.1.2"', ".1.2"),
        ("prefix = 10.0.1.0/24  # a pool", 'write prefix = "10.0.1.0/24"', ".1.0/24"),
        ("address = 2001:db8::1", 'write address = "2001:db8::1"', ":db8"),
        ("passive = True", "write passive = true", "True"),
        ("passive = yes", "write passive = true", "yes"),
        ("ttl_security = Off", "write ttl_security = false", "Off"),
        ("hostname = null", 'write hostname = ""', "null"),
        ("asn = 065203", "write asn = 65203", "65203"),
        ("asn = 65_203_", "write asn = 65203", "_"),
        ("asn = 65203;", "nothing stands behind a value: asn = 65203", ";"),
        ("asn = 65203,", "nothing stands behind a value: asn = 65203", ","),
        ("asn =", "a value is missing", ""),
        ("asn == 5", "one = is enough: asn = 5", "= 5"),
        ("asn: 65203", "this is YAML; TOML writes asn = 65203", ": 65203"),
        ("- name: leaf1", 'this is YAML; TOML writes name = "leaf1"', "name: leaf1"),
        ("asn 65203", "write asn = 65203", "65203"),
        ("router id = 5", "a key has no blanks", "id"),
        ("// comment", "a comment begins with #", "//"),
        ("; comment", "a comment begins with #", ";"),
        ('hostname = "node1', "close the text with the quotation mark", ""),
        ("router_id = \u201c10.0.0.1\u201d", 'use the plain quotation mark "', "\u201c"),
        ('hostname = "c:\\users"', "write \\\\ for a backslash", None),
        ("asn = 7\nasn = 5", "asn stands twice: remove one", "asn = 5"),
        ("[router]", "[router] stands twice", "[router]"),
        ("[neighbor]\n[neighbor]", "write [[neighbor]], with two brackets, for each of several", "[neighbor]"),
        ("[neighbor]\n[[neighbor]]", "write [[neighbor]], with two brackets, for each of several", "[[neighbor]]"),
        ("[[neighbor]]\n[neighbor]", "write [[neighbor]], with two brackets, for each of several", "[neighbor]"),
        ("[[listen]]\n[listen]", "write [[listen]]", "[listen]"),
        ("[api", "a table's name stands alone in its line", ""),
        ("[[vrf]", "a table's name stands alone in its line", "]"),
        ('protect = ["10.0.0.0/8" "10.1.0.0/16"]', "commas between", '"10.1.0.0/16"]'),
        ("protect = [10.0.0.0/8]", "put each text in quotes", None),
        ("bfd = {\n interval_ms = 3 }", "a table in braces stands on one line", ""),
    ],
)
def test_what_people_write_is_answered_with_the_line_a_mark_and_one_hint(line: str, hint: str, marked: str) -> None:
    text = ROUTER.replace("asn = 65203\n", "") + line + "\n"
    problem = problem_of(text)
    assert hint in problem.right
    shown, mark = problem.excerpt.splitlines()
    assert shown.strip() == text.split("\n")[problem.line - 1].strip()
    assert mark.strip() == "^"
    if marked is not None:
        assert shown[mark.index("^") :].startswith(marked)
        if not marked:
            assert len(mark) == len(shown) + 1
    assert str(problem).startswith(f"bgpd.toml:{problem.line}: is not valid TOML: ")
    assert str(problem).endswith(problem.excerpt)


def test_a_list_that_is_not_closed_is_told_where_the_next_key_is() -> None:
    problem = problem_of('[fib]\nprotect = ["10.0.0.0/8",\noverride = []\n')
    assert (problem.line, problem.right) == (3, "close the list or table that begins above")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"\xef\xbb\xbf" + ROUTER.encode(), "byte order mark"),
        (ROUTER.encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        (ROUTER.encode() + b'hostname = "M\xfcller"\n', "save it as UTF-8"),
        (b'{"router": {"asn": 65203}}', "this is JSON"),
        (b"router:\n  asn: 65203\n", "this is YAML; TOML writes [router]"),
        (ROUTER.encode() + b"\0", "NUL"),
        (ROUTER.encode().replace(b"\n", b"\r"), "carriage return"),
    ],
)
def test_files_of_another_kind_are_named(data: bytes, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert hint in caught.value.problems[0].right


def test_byte_that_is_no_utf8_is_shown_in_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_bytes(ROUTER.encode() + b'hostname = "M\xfcller"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    (problem,) = caught.value.problems
    assert problem.line == 4
    shown, mark = problem.excerpt.splitlines()
    assert shown[mark.index("^")] == "\ufffd"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{a=" * 5000 + "1" + "}" * 5000,
        "[a" + ".a" * 5000 + "]\nx = 1",
        "a" + ".a" * 5000 + " = 1",
        "[fib]\nprotect = " + "[" * 300 + "]" * 300,
        "[policy.x]\nrules = " + "[" * 100 + "]" * 100,
        "[workload" + ".kernel" * 800 + "]",
    ],
)
def test_deep_nesting_is_an_error_with_its_line(text: str) -> None:
    problem = problem_of(ROUTER + text + "\n")
    assert "nested more than 64 levels" in problem.what
    assert problem.line >= 4
    assert len(problem.excerpt) < 300


def test_number_of_thousands_of_digits_is_an_error_with_its_line() -> None:
    problem = problem_of(f"[router]\nasn = {'9' * 5000}\n")
    assert (problem.line, problem.right) == (2, "a number has at most 19 digits")
    assert len(problem.excerpt) < 300


@given(st.text(alphabet="[]{}=.,:#'\"\\ \n\r\t-+_aeisnrult0123456789\ufeff\0", max_size=80))
@example("[[neighbor]]\n" * 3 + "bfd.a.b = [1, {x = 2}]\n")
@example("a.b = 1\na = 2\n")
@example("[a]\nb = 1\n[a.b]\n")
def test_any_text_is_a_configuration_or_has_errors_that_can_be_told(text: str) -> None:
    problems: list[Problem] = []
    try:
        parse_config(text, "bgpd.toml")
    except ConfigError as error:
        problems = error.problems
    assert all(str(problem) and 0 <= problem.line <= text.count("\n") + 1 for problem in problems)
