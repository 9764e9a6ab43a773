"""python -m docs_site.drawings: draws the pictures of the concepts into docs/ (`make pictures`).

Each has a ground of its own and says its colours for light and for dark, so that it can be read on any page. Colour
says nothing that a line or a word does not say.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 760
_CHARACTER = 7.3
"""Pixels of a character, at most, in the type of a box."""
_STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; }
.small, .left { font-size: 12px; fill: #57606a; }
.left { text-anchor: start; }
.ground { fill: #f6f8fa; stroke: #d0d7de; }
.box { fill: #ffffff; stroke: #57606a; }
.good { fill: #dafbe1; stroke: #1a7f37; }
.bad { fill: #ffebe9; stroke: #cf222e; stroke-dasharray: 5 3; }
.group { fill: none; stroke: #57606a; stroke-dasharray: 2 3; }
line { stroke: #57606a; stroke-width: 1.5; marker-end: url(#head); }
.cut { stroke: #cf222e; stroke-dasharray: 5 3; }
#head path { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small, .left { fill: #9198a1; }
  .ground { fill: #161b22; stroke: #3d444d; }
  .box { fill: #0d1117; stroke: #9198a1; }
  .good { fill: #12261e; stroke: #3fb950; }
  .bad { fill: #2c1719; stroke: #f85149; }
  .group, line { stroke: #9198a1; }
  .cut { stroke: #f85149; }
  #head path { fill: #9198a1; }
}
"""
_HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
    'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z"/></marker>'
)


class Picture:
    """Boxes, arrows and words; coordinates in pixels from the upper left corner."""

    def __init__(self, height: int, description: str) -> None:
        self._height = height
        self._description = description
        self._parts: list[str] = []

    def box(self, x: int, y: int, width: int, *lines: str, kind: str = "box", height: int = 46) -> None:
        """A box with its lines in the middle. Raises: ValueError: one is wider than the box."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        top = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            if len(line) * _CHARACTER > width:
                raise ValueError(f'"{line}" is wider than its box')
            self._text(x + width / 2, top + 18 * number, line, "")

    def arrow(self, x: int, y: int, to_x: int, to_y: int, label: str = "", *, kind: str = "", above: int = 6) -> None:
        """An arrow, with words above its middle."""
        self._parts.append(f'<line class="{kind}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>')
        if label:
            self._text((x + to_x) / 2, (y + to_y) / 2 - above, label, "small")

    def group(self, x: int, y: int, width: int, height: int, label: str) -> None:
        """A frame around boxes, with its name in the upper left corner."""
        self._parts.append(f'<rect class="group" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        self._text(x + 10, y + 17, label, "left")

    def note(self, x: int, y: int, text: str, kind: str = "small") -> None:
        """Words of their own."""
        self._text(x, y, text, kind)

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(text)}</text>'.replace(' class=""', "")
        )

    def svg(self) -> str:
        """The whole file."""
        ground = f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self._height - 1}" rx="8"/>'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" role="img">'
        title = f"<title>{html.escape(self._description)}</title>"
        return "\n".join([head, title, f"<style>{_STYLE}</style>", _HEAD, ground, *self._parts, "</svg>\n"])


def way_of_a_route() -> Picture:
    """From an UPDATE to the kernel."""
    picture = Picture(
        246, "From a leaf's UPDATE by session, import policy, RIB and decision to kernel route and nexthop group"
    )
    picture.box(20, 40, 80, "leaf")
    picture.arrow(100, 63, 190, 63, "UPDATE")
    picture.box(190, 40, 100, "session")
    picture.arrow(290, 63, 330, 63)
    picture.box(330, 40, 120, "import policy")
    picture.arrow(450, 63, 490, 63)
    picture.box(490, 40, 110, "candidates", "of a prefix")
    picture.arrow(600, 63, 640, 63)
    picture.box(640, 40, 100, "decision", kind="good")
    picture.note(545, 104, "bgpd show routes")
    picture.arrow(690, 86, 690, 160, "", above=0)
    picture.note(640, 126, "best paths")
    picture.box(580, 160, 160, "desired kernel route", kind="good")
    picture.arrow(580, 183, 480, 183, "netlink")
    picture.box(330, 160, 150, "route in the kernel")
    picture.arrow(330, 183, 270, 183)
    picture.box(120, 160, 150, "nexthop group")
    picture.arrow(120, 183, 60, 90, "")
    picture.note(405, 228, "bgpd show fib: desired, installed, and why not")
    return picture


def failover() -> Picture:
    """Many routes point at one group; a leaf that dies is one member less."""
    picture = Picture(
        250, "A million routes point at one nexthop group; when leaf1 dies its member is deleted in one message"
    )
    for number, prefix in enumerate(("10.0.0.0/24", "10.0.1.0/24", "... a million routes")):
        picture.box(20, 34 + 60 * number, 160, prefix)
        picture.arrow(180, 57 + 60 * number, 300, 117, "")
    picture.box(300, 94, 150, "nexthop group 7", kind="good")
    picture.arrow(450, 117, 560, 57, kind="cut")
    picture.arrow(450, 117, 560, 177)
    picture.box(560, 34, 180, "nexthop 1: leaf1", "dead: deleted", kind="bad")
    picture.box(560, 154, 180, "nexthop 2: leaf2", "takes all of it", kind="good")
    picture.note(
        375, 226, "One netlink message, whether ten routes use the group or a million. No route is written again."
    )
    return picture


def way_of_a_claim() -> Picture:
    """From a source to the leaf."""
    picture = Picture(
        250, "A claim becomes a kernel route; only when the kernel has acknowledged it is it announced to the leaves"
    )
    picture.group(14, 20, 172, 212, "sources")
    for number, source in enumerate(("kernel routes, addresses", "MQTT, API", "services", "guests")):
        picture.box(24, 46 + 46 * number, 152, *_two(source), height=40)
    picture.arrow(186, 126, 236, 126, "claim")
    picture.box(236, 103, 96, "first claim", "holds it")
    picture.arrow(332, 126, 376, 126)
    picture.box(376, 103, 110, "kernel route")
    picture.arrow(486, 126, 596, 126, "acknowledged")
    picture.box(596, 103, 146, "export policy", "of each neighbor", kind="good")
    picture.arrow(669, 103, 669, 66, "")
    picture.box(596, 20, 146, "leaf1, leaf2")
    picture.box(376, 186, 366, "not acknowledged, damped, drained: withheld", kind="bad", height=40)
    picture.arrow(431, 149, 431, 186, kind="cut")
    return picture


def _two(text: str) -> list[str]:
    first, comma, second = text.partition(", ")
    return [first + comma.strip(), second] if len(text) * _CHARACTER > 150 else [text]


def hand_over() -> Picture:
    """The sockets go from one process to the next."""
    picture = Picture(
        236,
        "Sockets and a snapshot go from the former process through systemd to the next one; the leaf notices nothing",
    )
    picture.box(20, 90, 90, "leaf")
    picture.arrow(110, 113, 220, 56, "")
    picture.note(150, 72, "before")
    picture.arrow(110, 113, 220, 170, "")
    picture.note(150, 164, "after")
    picture.box(220, 33, 150, "former process")
    picture.box(220, 147, 150, "next process", kind="good")
    picture.arrow(370, 56, 470, 103, "")
    picture.arrow(470, 123, 370, 170, "")
    picture.box(470, 82, 270, "systemd keeps meanwhile:", "sockets of sessions, a snapshot", height=62)
    picture.note(605, 166, "what neighbors said and were told,")
    picture.note(605, 183, "claims, moves of VMs, counters")
    picture.note(295, 222, "The kernel forwards by the same routes all the time; BFD is a process of its own.")
    return picture


def tenants() -> Picture:
    """EVPN ends at the leaf."""
    picture = Picture(
        250, "The host sends plain frames into a VLAN for each tenant; the leaf puts them into the tenant's VXLAN"
    )
    picture.group(14, 20, 250, 212, "host")
    picture.box(28, 52, 90, "pod", "10.1.1.5")
    picture.box(28, 156, 90, "VM", "10.1.1.5")
    picture.arrow(118, 75, 150, 75)
    picture.arrow(118, 179, 150, 179)
    picture.box(150, 52, 100, "VRF blue", "table 1001")
    picture.box(150, 156, 100, "VRF red", "table 1002")
    picture.arrow(250, 75, 420, 75, "VLAN 101: frames")
    picture.arrow(250, 179, 420, 179, "VLAN 102: frames")
    picture.group(406, 20, 170, 212, "leaf")
    picture.box(420, 52, 142, "VNI 5001")
    picture.box(420, 156, 142, "VNI 5002")
    picture.arrow(576, 127, 640, 127, "VXLAN")
    picture.box(640, 104, 104, "other leaves")
    picture.note(335, 131, "addresses: EVPN")
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "concept-route.svg": way_of_a_route,
    "concept-failover.svg": failover,
    "concept-claim.svg": way_of_a_claim,
    "concept-hand-over.svg": hand_over,
    "concept-tenants.svg": tenants,
}
"""By the names of their files in docs/."""


def main() -> int:
    """Writes all of them."""
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw().svg())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
