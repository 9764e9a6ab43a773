"""YAML that nobody vouches for: lines are right, and what is wrong is said with its line, in little time and memory."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.yaml_documents import MOST_VALUES, read_documents


def wrong(text: str) -> str:
    with pytest.raises(ImportFailed) as failed:
        read_documents(text, "f.yaml")
    return str(failed.value)


def test_keys_know_their_lines_and_words_stay_what_they_were() -> None:
    (first, second) = read_documents(
        "# head\na: 65000:1\nb: {c: yes, d: 012, e: 1.5, f: ~, g: '7'}\n---\nh:\n  - i: true\n---\n", "f.yaml"
    )
    assert first == {"a": "65000:1", "b": {"c": "yes", "d": "012", "e": 1.5, "f": None, "g": "7"}}
    assert str(first.at("a")) == "f.yaml:2"
    assert str(second.mappings("h")[0].at("i")) == "f.yaml:6"
    assert second.mappings("h")[0].flag("i") is True


def test_json_is_read_with_lines_too() -> None:
    (document,) = read_documents('{\n  "kind": "List",\n  "items": [\n    {"kind": "Node"}\n  ]\n}\n', "f.json")
    assert str(document.mappings("items")[0].place) == "f.json:4"


def test_aliases_and_merge_keys_are_followed() -> None:
    (document,) = read_documents("base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: *b\n", "f.yaml")
    assert document["one"] == {"x": 1, "y": 3}
    assert document["two"] is document["base"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3\n", "f.yaml:2: is no YAML"),
        ("a: 1\na: 2\n", 'f.yaml:2: "a" stands twice, first in line 1'),
        ("a: !!python/object/apply:os.system [x]\n", "f.yaml:1: the tag"),
        ("a: !!timestamp 2001-01-01\n", "f.yaml:1: the tag"),
        ("a: &x\n  b: *x\n", 'f.yaml:2: "*x" stands inside what it names'),
        ("a: *nowhere\n", "f.yaml:1"),
        ("a: 1\n---\n- 2\n", "f.yaml:3: a document is no mapping"),
        ("? {a: 1}\n: 2\n", "f.yaml:1: a key is"),
        ('{"a": 1,\n "b": }\n', "f.yaml:2: is no JSON"),
        ("a: \x01\n", "f.yaml:"),
        ("\t- a\n", "f.yaml:1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    assert wrong(text).startswith(said)


def test_a_bomb_of_aliases_is_told_and_does_not_go_off() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert f"holds more than {MOST_VALUES} values" in wrong("\n".join(levels))


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a:\n  " + "- " * 100_000 + "a", "a: " + "{b: " * 5000])
def test_nesting_without_end_is_told(text: str) -> None:
    assert "nested" in wrong(text) or "no YAML" in wrong(text)


def test_nesting_without_end_in_json_is_told() -> None:
    assert "nested" in wrong('{"a": ' + "[" * 200_000)


def test_another_kind_than_expected_is_told_with_its_line() -> None:
    (document,) = read_documents("a:\n  b: 1\nc: [x]\nd: text\n", "f.yaml")
    for ask, said in (
        (lambda: document.items_of("a"), 'f.yaml:1: "a" is no list'),
        (lambda: document.mapping("c"), 'f.yaml:3: "c" is no mapping'),
        (lambda: document.mappings("c"), 'f.yaml:3: "c" has something in it that is no mapping'),
        (lambda: document.number("d"), 'f.yaml:4: "d" is no whole number'),
        (lambda: document.flag("d"), 'f.yaml:4: "d" is neither'),
        (lambda: document.text("a"), 'f.yaml:1: "a" is no text'),
    ):
        with pytest.raises(ImportFailed) as failed:
            ask()
        assert str(failed.value).startswith(said)


@given(st.text(st.sampled_from("ab:-[]{}&*!?|>'\"#\n  ,0"), max_size=60))
def test_garbage_is_read_or_told(text: str) -> None:
    with contextlib.suppress(ImportFailed):
        read_documents(text, "f.yaml")
