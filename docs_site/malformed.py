"""The page of malformed messages: the cases of the tests, and what bgpd's own code answers to each of them."""

from __future__ import annotations

from bgpd.model.wire import Reaction
from tests.message.malformed import CASES, ELSEWHERE, answer, by_rfc

_TEST = "tests/message/test_malformed.py"
_ELSEWHERE = "Well-formed, and not simply taken"
_COSTS = {
    Reaction.ACCEPT: "nothing",
    Reaction.ATTRIBUTE_DISCARD: "the attribute",
    Reaction.TREAT_AS_WITHDRAW: "the routes",
    Reaction.SESSION_RESET: "the session",
}


def malformed_messages() -> str:
    """Each rule with its RFC and what breaking it costs, by the part of BGP that it is about."""
    lines = [
        "# Malformed messages",
        "",
        "What a neighbor may get wrong, and what it costs: nothing (it is ignored), the attribute (attribute discard),",
        "the routes of the UPDATE (treat-as-withdraw), or the session, with the NOTIFICATION (code and subcode) that",
        "is sent. [RFC 7606](https://www.rfc-editor.org/rfc/rfc7606) is about the first three.",
        "",
        "Made of the code: each row is a message that bgpd's own connection and decoder were given when this page was",
        f"made, with their answer. `{_TEST}` holds each answer against the RFC; the test of",
        "a row is `test_what_is_malformed_costs_what_the_rfc_says[PART: WHAT IS WRONG]`. Others there see to",
        "it that no attribute and no error of the code is without a row.",
        "",
        'Where no NLRI tells which routes they are, "the routes" become the session (RFC 7606 section 5.2). What was',
        "wrong is in the log: `update.malformed` ([events](events.md)). `bgpd decode` judges any message.",
    ]
    about = ""
    for case in CASES:
        if case.about != about:
            about = case.about
            lines += ["", f"## {about}", "", "| what is wrong | by | costs | NOTIFICATION |", "|---|---|---|---|"]
        found = answer(case)
        sent = "" if found.notification is None else "{}/{}".format(*found.notification)
        lines.append(f"| {case.what} | {case.rfc} | {_COSTS[found.reaction]} | {sent} |")
    lines += ["", f"## {_ELSEWHERE}", "", "| what | by | then | test |", "|---|---|---|---|"]
    for row in ELSEWHERE:
        lines.append(f"| {row.what} | {row.rfc} | {row.cost} | `{row.test}` |")
    lines += ["", "## By RFC", "", "| RFC | rows |", "|---|---|"]
    for number, parts in by_rfc().items():
        rows = ", ".join(f"{part or _ELSEWHERE} ({count})" for part, count in parts.items())
        lines.append(f"| [{number}](https://www.rfc-editor.org/rfc/rfc{number}) | {rows} |")
    return "\n".join(lines) + "\n"
