"""What is shown to work with which other speaker: read from the tests' own marks, and written as docs/interop.md.

    python -m tests.interop.matrix    writes the page anew

A test that is marked `@pytest.mark.interop("BIRD", "md5", "gtsm")` shows that both work with BIRD, by BIRD's own output
and by bgpd's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "interop.md"
MARK = "interop"


class Speaker(NamedTuple):
    """A program that speaks BGP. `packages`: Debian's, with its version."""

    version: str
    packages: Mapping[str, str]
    asked_by: str


SPEAKERS = {
    "FRR": Speaker("8.4.4", {"frr": "8.4.4"}, "`vtysh`"),
    "BIRD": Speaker("2.0.12", {"bird2": "2.0.12"}, "`birdc`"),
    "GoBGP": Speaker("3.10.0", {"gobgpd": "3.10.0"}, "`gobgp`"),
    "OpenBGPD": Speaker("7.7", {"openbgpd": "7.7"}, "`bgpctl`"),
    "ExaBGP": Speaker("5.0.15", {}, "the JSON of its API"),
    "ExaBGP 4": Speaker("4.2.21", {"python3-exabgp": "4.2.21"}, "the JSON of its API"),
}
FEATURES = {
    "ipv4": "IPv4 unicast",
    "ipv6": "IPv6 unicast (RFC 4760)",
    "evpn-2": "EVPN type 2, MAC and IP (RFC 7432)",
    "evpn-5": "EVPN type 5, IP prefix (RFC 9136)",
    "rtc": "route target constraint (RFC 4684)",
    "internal": "internal sessions (iBGP)",
    "rfc8950": "IPv4 with IPv6 next hops (RFC 8950)",
    "unnumbered": "unnumbered, by link-local addresses",
    "md5": "TCP MD5 (RFC 2385)",
    "gtsm": "TTL security (RFC 5082)",
    "two-octet": "a peer with two-octet AS numbers (RFC 6793)",
    "extended-messages": "messages above 4096 bytes (RFC 8654)",
    "refresh-asked": "bgpd asks for routes again (RFC 2918)",
    "refresh-answered": "the peer asks for routes again (RFC 2918)",
    "enhanced-refresh": "marks around routes that are sent again (RFC 7313)",
    "peer-restarts": "the peer restarts, bgpd keeps its routes (RFC 4724)",
    "host-restarts": "bgpd restarts, the peer keeps its routes (RFC 4724)",
    "long-lived-here": "long-lived stale routes of the peer (RFC 9494)",
    "long-lived-there": "long-lived stale routes of bgpd (RFC 9494)",
    "bfd": "BFD (RFC 5880)",
    "shutdown-text": "shutdown text (RFC 9003)",
    "hard-reset": "hard reset (RFC 8538)",
    "roles": "roles (RFC 9234)",
    "max-prefix-here": "more prefixes than bgpd takes",
    "max-prefix-there": "more prefixes than the peer takes",
    "collision": "both dial (RFC 4271 section 6.8)",
    "dynamic-here": "the peer is a dynamic neighbor of bgpd",
    "dynamic-there": "bgpd is a dynamic neighbor of the peer",
}
EXABGP_CANNOT = {
    "evpn-2": "its configuration has no such routes",
    "evpn-5": "its configuration has no such routes",
    "rtc": "its configuration has no such routes",
    "unnumbered": "it wants a neighbor's address",
    "host-restarts": "it keeps no routes",
    "long-lived-here": "it does not offer them",
    "long-lived-there": "it does not offer them",
    "bfd": "it has no BFD",
    "hard-reset": "it does not send the N bit",
    "roles": "it does not offer them",
    "max-prefix-there": "it has no limit",
}
CANNOT = {
    "FRR": {"rtc": "it has no such address family"},
    "BIRD": {
        "evpn-2": "it has no EVPN",
        "evpn-5": "it has no EVPN",
        "rtc": "it has no such address family",
        "hard-reset": "it does not send the N bit",
    },
    "GoBGP": {
        "unnumbered": "it sends no Router Advertisements, by which bgpd finds its neighbors",
        "two-octet": "it always offers four-octet AS numbers",
        "extended-messages": "it does not offer them",
        "refresh-answered": "it keeps all that it receives, and asks for nothing again",
        "enhanced-refresh": "it does not offer it",
        "bfd": "it has no BFD",
        "roles": "it does not offer them",
    },
    "OpenBGPD": {
        "evpn-2": "it has no EVPN",
        "evpn-5": "it has no EVPN",
        "rtc": "it has no such address family",
        "rfc8950": "it does not offer them",
        "refresh-asked": "it drops requests ([its issue 46](https://github.com/openbgpd-portable/openbgpd-portable/issues/46))",
        "unnumbered": "it wants a neighbor's address",
        "extended-messages": "it does not offer them",
        "peer-restarts": "it keeps routes of others, but does not ask for that itself",
        "long-lived-here": "it does not offer them",
        "long-lived-there": "it does not offer them",
        "bfd": "it has no BFD",
        "hard-reset": "it does not send the N bit",
    },
    "ExaBGP": EXABGP_CANNOT,
    "ExaBGP 4": {
        **EXABGP_CANNOT,
        "refresh-asked": "it closes the session at any ROUTE-REFRESH message",
        "refresh-answered": "it closes the session at the mark before the answer",
        "enhanced-refresh": "it offers it, and closes the session at the first mark",
        "shutdown-text": "it does not understand a NOTIFICATION that has text",
    },
}
"""Why a speaker, in this version, cannot do what bgpd does."""
CAPABILITIES = {
    "rfc8950": "extended-next-hop",
    "extended-messages": "extended-message",
    "long-lived-here": "long-lived-graceful-restart",
    "roles": "role",
}
"""Those that a speaker cannot offer that cannot do this."""


class Proof(NamedTuple):
    """A test that shows a feature with a speaker: `test` is its file and name, as pytest takes them."""

    speaker: str
    feature: str
    test: str


def proofs() -> list[Proof]:
    """Those of all tests, by file and line."""
    found = []
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text()
        if f"mark.{MARK}(" in text:
            name = file.relative_to(TESTS.parent)
            tree = ast.parse(text)
            functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
            found += [
                Proof(speaker, feature, f"{name}::{function.name}")
                for function in functions
                for speaker, *features in _marks(function)
                for feature in features
            ]
    return found


def _marks(function: ast.FunctionDef) -> Iterator[list[str]]:
    """The arguments of each mark among the decorators of a test."""
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == MARK:
                yield [ast.literal_eval(argument) for argument in node.args]


HEAD = """# Interoperability

Which features are shown to work with which other speakers. This page is written from the tests that show it: each runs
with the suite, starts the other program in a network namespace, and looks at what that program says of the session
({asked_by}) as well as at what bgpd says.

The programs are those of Debian 12; ExaBGP 5 is that of PyPI.

* **yes**: a test shows it.
* no: the program cannot do it in this version; the reasons are [below](#what-the-others-cannot-do).
* not shown: no test shows it.

"""


def page() -> str:
    """The text of docs/interop.md."""
    found = proofs()
    shown = {(proof.speaker, proof.feature) for proof in found}
    asked_by = ", ".join(f"{name}: {speaker.asked_by}" for name, speaker in SPEAKERS.items() if name != "ExaBGP 4")
    lines = [HEAD.format(asked_by=asked_by)]
    lines.append("| | " + " | ".join(f"{_name(name)}" for name, speaker in SPEAKERS.items()) + " |\n")
    lines.append("|" + "---|" * (len(SPEAKERS) + 1) + "\n")
    for feature, title in FEATURES.items():
        cells = (_cell(speaker, feature, (speaker, feature) in shown) for speaker in SPEAKERS)
        lines.append(f"| {title} | " + " | ".join(cells) + " |\n")
    lines.append("\n## What the others cannot do\n\n| | in this version | why not |\n|---|---|---|\n")
    for speaker, reasons in CANNOT.items():
        lines += [f"| {FEATURES[feature]} | {_name(speaker)} | {why} |\n" for feature, why in reasons.items()]
    lines.append("\n## Which test shows what\n\n| | | test |\n|---|---|---|\n")
    for feature, title in FEATURES.items():
        for speaker in SPEAKERS:
            tests = [f"`{one.test}`" for one in found if (one.speaker, one.feature) == (speaker, feature)]
            if tests:
                lines.append(f"| {title} | {speaker} | {', '.join(tests)} |\n")
    return "".join(lines)


def _name(speaker: str) -> str:
    """With its version."""
    return f"{speaker.split()[0]} {SPEAKERS[speaker].version}"


def _cell(speaker: str, feature: str, is_shown: bool) -> str:
    if is_shown:
        return "**yes**"
    return "no" if feature in CANNOT.get(speaker, {}) else "not shown"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
