"""Target: what two neighbors say goes through decoder, RIB and EVPN, and out to the other one; with their sessions all
of it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bgpd.evpn import importer, mac_mobility, resolve
from bgpd.message import update_encoder
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.rib import comparison, decision, keyed_routes, received, small_batches
from tests.evpn.test_fuzz import ALL, DECODERS, TEXT, Wired, session
from tests.fuzz.messages import NEXT, SHORTEST_UPDATE
from tests.fuzz.target import OF_NEIGHBORS, Target
from tests.message.decoding import AS_PATH, MANDATORY, NEXT_HOP, ORIGIN, attribute, reach, unreach, update
from tests.message.test_plain_updates import EVPN_ROUTES, RD

MOST_UPDATES = 10
FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN)
OWN = "10.64.1.9/32"
OTHER = TEXT.replace('import_rt = ["65201:5001"]', 'import_rt = ["65201:5002", "65201:5001"]')
"""A configuration in which VRF blue imports more."""


class Fabric:
    """A host with its two neighbors."""

    def __init__(self, *, four_octet_as: bool) -> None:
        self.host = Wired()
        self.decoder = UpdateDecoder(session(four_octet_as), nlri_decoders=DECODERS)
        self.leaves = [self.host.up(1, *ALL), self.host.up(2, *ALL)]
        self.host.workload(OWN, mac="02:00:00:00:00:09")
        self.has_own = True
        self.is_up = True

    def say(self, who: int, body: bytes) -> None:
        """An UPDATE, or with one byte something else that happens; what ends the session ends it."""
        if len(body) < SHORTEST_UPDATE:
            EVENTS[body[0] % len(EVENTS)](self, who, body[0])
            return
        batches: list[RouteBatch] = []
        if not self.decoder.read_run([body], batches):
            decoded = self.decoder.decode(body)
            batches += decoded.batches
            if decoded.notification is not None:
                self.begin_anew(who, 0)
        self.host.hear_all(self.leaves[who], batches)

    def begin_anew(self, who: int, _: int) -> None:
        self.host.down(self.leaves[who])
        self.leaves[who] = self.host.up(who + 1, *ALL)

    def begin_refresh(self, who: int, number: int) -> None:
        self.host.rib.received.refresh_began(self.leaves[who], FAMILIES[(number >> 5) % len(FAMILIES)])

    def end_refresh(self, who: int, number: int) -> None:
        self.host.run(self.host.rib.received.refresh_ended(self.leaves[who], FAMILIES[(number >> 5) % len(FAMILIES)]))
        self.host.turn()

    def cut_or_mend(self, _: int, __: int) -> None:
        """An uplink of the VRF."""
        self.is_up = not self.is_up
        self.host.link("eth0.101", index=3, up=self.is_up)
        self.host.turn()

    def move(self, _: int, __: int) -> None:
        """The machine leaves, or comes back."""
        self.has_own = not self.has_own
        if self.has_own:
            self.host.workload(OWN, mac="02:00:00:00:00:09")
        else:
            self.host.workload_deleted(OWN)

    def wait(self, _: int, __: int) -> None:
        """As long as a machine may take that moves."""
        self.host.now += 10.0
        due, self.host.timers = self.host.timers, []
        for when, callback in due:
            if when <= self.host.now:
                callback()
            else:
                self.host.timers.append((when, callback))
        self.host.turn()

    def reload(self, _: int, number: int) -> None:
        self.host.reconfigure(OTHER if number & 0x20 else TEXT)

    def end(self) -> None:
        """With each session all goes that it said."""
        for leaf in self.leaves:
            self.host.down(leaf)
            for table in self.host.rib.tables.values():
                for key, one in table.routes.items():
                    assert leaf not in {path.source for path in one.candidates}, (table.vrf, table.family, key)
        self.host.assert_only_local()


EVENTS: tuple[Callable[[Fabric, int, int], None], ...] = (
    Fabric.begin_refresh,
    Fabric.end_refresh,
    Fabric.cut_or_mend,
    Fabric.move,
    Fabric.wait,
    Fabric.reload,
    Fabric.begin_anew,
)


def run_routes(data: bytes) -> None:
    """The first byte chooses the length of AS numbers, the bits of the second one which of both says each UPDATE."""
    bodies = [body for body in data[2:].split(NEXT) if body][:MOST_UPDATES]
    first, by_second = data[:2].ljust(2, b"\0")
    fabric = Fabric(four_octet_as=first >= 0x80)
    for number, body in enumerate(bodies):
        fabric.say(by_second >> number % 8 & 1, body)
    fabric.end()


# What is right

WORDS = b"\x80\xaa"
"""4-octet AS numbers; the neighbors take turns."""
ROUTES = [one.replace(RD, bytes.fromhex("00010aff090903e9")) for one in EVPN_ROUTES]
"""Of another host."""
OWN_ROUTE = ROUTES[0].replace(b"\2\0\0\0\0\1\x20\x0a\x40\0\1", bytes.fromhex("020000000009200a400109"))
"""Of the machine that this host has."""


def seeds() -> Iterator[bytes]:
    """The same routes of both neighbors, by paths that are compared at each step of the decision."""
    long = attribute(2, bytes((2, 2)) + bytes.fromhex("0000feb10000feb2"), 0x40)
    others = (
        (ORIGIN + AS_PATH + NEXT_HOP, ORIGIN + long + NEXT_HOP),
        (MANDATORY + attribute(5, b"\0\0\0\x32", 0x40), MANDATORY),
        (MANDATORY + attribute(4, b"\0\0\0\1", 0x80), MANDATORY + attribute(4, b"\0\0\0\2", 0x80)),
        (ORIGIN[:3] + b"\2" + AS_PATH + NEXT_HOP, MANDATORY),
        (MANDATORY, MANDATORY),
        (MANDATORY + attribute(8, bytes.fromhex("ffff0000fde80001"), 0xC0), MANDATORY),
    )
    nlri = b"\x18\x0a\1\2" + b"\x20\x0a\1\2\3" + b"\0"
    for first, second in others:
        said = update(first, nlri), update(second, nlri), update(withdrawn=nlri), update(second, nlri[:4])
        yield WORDS + NEXT.join(said)
    for mobility in ("", "0600000000000003", "0601000000000009"):
        block = ORIGIN + AS_PATH + attribute(16, bytes.fromhex("0002feb100001389" + mobility), 0xC0)
        chosen = (OWN_ROUTE, ROUTES[9], *ROUTES[:3], *ROUTES[6:8])
        said = [update(reach(25, 70, b"\xc0\0\2\1", one) + block) for one in chosen]
        yield WORDS + NEXT.join([*said, update(unreach(25, 70, OWN_ROUTE))])
        for event in range(len(EVENTS)):
            for also in (0x20 * len(EVENTS), 0x40 * len(EVENTS)):
                happens = bytes((event + also & 0xFF,))
                yield WORDS + NEXT.join([*said[:2], happens, said[1], said[0], said[2], happens, bytes((4,)), said[1]])


TARGETS = {
    "routes": Target(
        run_routes,
        (
            received.ReceivedRoutes.routes_received,
            *(decision.decide, comparison, small_batches, keyed_routes),
            *(importer, mac_mobility.MacMobility, resolve, update_encoder),
        ),
        seeds,
        messages=MOST_UPDATES,
        share=OF_NEIGHBORS,
    )
}
