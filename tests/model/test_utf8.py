"""Names that are no UTF-8 are written, too, and the rest as it is."""

from __future__ import annotations

import msgspec

from bgpd.api.answers import json_answer
from bgpd.api.stream import view_slices
from bgpd.model.next_hop import NextHop
from bgpd.model.utf8 import as_json, as_msgpack
from bgpd.model.views.host import UplinkOverview
from bgpd.model.views.queries import PageView

NAME = b"tap\xff".decode(errors="surrogateescape")
VIEW = UplinkOverview(interface=NAME, up=True, vrf="", speed_mbps=None, neighbors=[NAME, "leaf1"])


def test_a_listing_has_it_with_what_cannot_be_written_replaced() -> None:
    found = msgspec.json.decode(b"".join(view_slices(iter([VIEW]), keep=lambda view: True, limit=0)))
    assert [(one["interface"], one["neighbors"]) for one in found] == [("tap?", ["tap?", "leaf1"])]
    assert json_answer(VIEW).body == as_json(VIEW) + b"\n"
    assert b'"tap?"' in as_json(PageView(total=1, after=NAME, rows=[msgspec.Raw(as_json(VIEW))]))


def test_what_can_be_written_is_as_ever() -> None:
    view = UplinkOverview(interface="é", up=True, vrf="", speed_mbps=None, neighbors=[])
    assert as_json(view) == msgspec.json.encode(view)
    hop = NextHop(b"\x0a\xff", NAME)
    assert msgspec.msgpack.decode(as_msgpack(hop), type=NextHop) == NextHop(b"\x0a\xff", "tap?")
    assert as_msgpack(VIEW.neighbors[1:]) == msgspec.msgpack.encode(["leaf1"])
