"""Whatever was read, the text is the configuration that was meant: nothing leaves its string or its comment."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bgpd.migrate.draft import Draft, Place, Variable
from bgpd.migrate.toml_writer import write_draft

TEXT = st.text(st.characters(), max_size=30)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), PLAIN),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(PLAIN, inner, max_size=3)),
    max_leaves=6,
)


def unescaped(value: Any) -> Any:
    """Strings as `bgpd` has them once "$${" stands for "${" again."""
    match value:
        case str():
            return value.replace("$${", "${")
        case list():
            return [unescaped(one) for one in value]
        case dict():
            return {key: unescaped(one) for key, one in value.items()}
    return value


@given(st.lists(st.tuples(st.sampled_from(["name", "asn", "x-1", "ü b"]), VALUES, TEXT), max_size=5), TEXT, TEXT)
def test_what_is_written_is_what_is_read(entries: list[tuple[str, Any, str]], remark: str, loss: str) -> None:
    draft = Draft("title")
    table = draft.add("neighbor")
    for key, value, comment in entries:
        table.put(key, value, comment)
    table.propose("hidden", "x", remark)
    table.remark(remark)
    draft.lose(Place("file", 3), loss)
    draft.add("neighbor", is_proposal=True).put("name", remark, loss)
    assert unescaped(tomllib.loads(write_draft(draft))) == {
        "neighbor": [{key: unescaped(value) for key, value in table.values.items()}]
    }


def test_a_dollar_brace_of_others_is_text_and_a_variable_that_is_meant_is_one() -> None:
    draft = Draft()
    draft.section("router").put("hostname", "${env:SECRET}")
    draft.section("router").put("router_id", Variable("${loopback4}"))
    read = tomllib.loads(write_draft(draft))
    assert read == {"router": {"hostname": "$${env:SECRET}", "router_id": "${loopback4}"}}


def test_a_long_list_has_one_element_on_each_line() -> None:
    draft = Draft()
    draft.section("fib").put("protect", [f"10.{number}.0.0/16" for number in range(20)], "why")
    text = write_draft(draft)
    assert max(map(len, text.splitlines())) < 120
    assert tomllib.loads(text)["fib"]["protect"][19] == "10.19.0.0/16"
