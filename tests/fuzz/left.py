"""Targets: what one process leaves to the next: the RIB by the snapshot, the drain and services by files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache

import msgspec

from bgpd.cli.drain import drain_lines
from bgpd.drain import Drain, LeftDrain, Order, Saved
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.service import Backend, LastResort, Service
from bgpd.model.source import Source
from bgpd.model.utf8 import as_json
from bgpd.rib import policy, policy_match, prepared, restore, restored_table, saved
from bgpd.rib.prepared import PreparedRib
from bgpd.rib.saved import SavedRib
from bgpd.workload.service import saved_standing
from bgpd.workload.service.saved_health import SavedHealth
from bgpd.workload.service.service_file import NAME, SavedService, ServiceFile
from bgpd.workload.service.services import Services
from tests.fuzz.messages import NEXT, SHORTEST_UPDATE
from tests.fuzz.target import OF_NEIGHBORS, Script, Target, directory
from tests.message.decoding import (
    AS_PATH,
    EVPN,
    GLOBAL,
    MANDATORY,
    NEXT_HOP,
    ORIGIN,
    attribute,
    negotiated,
    reach,
    update,
)
from tests.message.test_plain_updates import EVPN_ROUTES
from tests.rib.build import Recorder, drain
from tests.rib.test_restored_table import CONFIG, SESSIONS, described, sources
from tests.test_drain import Site
from tests.workload.service.rig import TCP, A, B, clocked

# The RIB

FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN)
MOST_UPDATES = 12


@cache
def _decoder() -> UpdateDecoder:
    return UpdateDecoder(negotiated(families=FAMILIES), nlri_decoders=EVPN)


class Process:
    """A RIB with three neighbors, of different policies, and its process."""

    def __init__(self, left: SavedRib | None = None) -> None:
        self.recorder = Recorder(CONFIG)
        self.rib = self.recorder.rib
        self.speaking: dict[int, Source] = dict(enumerate(sources()))
        words = negotiated(families=FAMILIES)
        for source, config in zip(self.speaking.values(), SESSIONS):
            self.rib.received.neighbor_up(source, words, config, is_adopted=left is not None)
        if left is not None:
            drain(self.rib.received.restore_sessions(left, {}))

    def hear(self, who: int, body: bytes) -> None:
        """A neighbor says an UPDATE, and loses its session if that costs it."""
        source = self.speaking.get(who)
        if source is None:
            return
        decoded = _decoder().decode(body)
        if decoded.notification is not None:
            del self.speaking[who]
            drain(self.rib.received.neighbor_down(source))
            return
        for batch in decoded.batches:
            self.rib.received.routes_received(source, [batch])
        self.rib.commit_gathered()

    def leave(self, begun: PreparedRib | None) -> SavedRib:
        """What is left, as the next process reads it."""
        rest, base = (begun or self.rib.to_leave()).rest()
        found = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=SavedRib)
        found.base = msgspec.msgpack.decode(base, type=SavedRib) if base else None
        return found

    @property
    def tables(self) -> dict[Family, dict[bytes, object]]:
        """All routes, but for when they were heard."""
        return {family: described(self.rib.table("", family), without_times=True) for family in FAMILIES}


def _prepare(process: Process) -> PreparedRib | None:
    found = process.rib.to_leave()
    if not found.begin():
        return None
    found.packed = found.base()
    return found


def run_handed_over(data: bytes) -> None:
    """UPDATEs of three neighbors before a hand-over, after the base was written, and while the next process takes up
    what was left: its tables become those of a process that lived on. The first bytes say how many are before, who
    speaks, and what is taken up between them."""
    script = Script(data)
    first, second, who, pace = (script.byte() for _ in range(4))
    bodies = [body for body in script.rest().split(NEXT) if len(body) >= SHORTEST_UPDATE][:MOST_UPDATES]
    said = [((who >> 2 * (number % 4) & 3) % 3, body) for number, body in enumerate(bodies)]
    former = Process()
    at_base, at_end = first % (len(said) + 1), first % (len(said) + 1) + second % (len(said) + 1)
    for one in said[:at_base]:
        former.hear(*one)
    begun = _prepare(former) if pace & 1 else None
    for one in said[at_base:at_end]:
        former.hear(*one)
    next_one = Process(former.leave(begun))
    for number in set(next_one.speaking) - set(former.speaking):  # it was not adopted
        drain(next_one.rib.received.neighbor_down(next_one.speaking.pop(number)))
    steps = next_one.rib.received.restore_routes()
    for one in said[at_end:]:
        for _ in range(pace >> 1 & 3):
            next(steps, None)
        next_one.hear(*one)
    drain(steps)
    next_one.rib.commit_gathered()
    for one in said[at_end:]:
        former.hear(*one)
    assert next_one.tables == former.tables
    assert next_one.recorder.fib == former.recorder.fib
    assert next_one.rib.received.is_complete


# Files

BACKENDS = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,)))
SERVICE = Service(
    addresses=("10.64.9.1",), backends=BACKENDS, check=TCP, last_resort=LastResort.KEEP, slow_start_s=60.0
)


def run_drain(data: bytes) -> None:
    """`drain.json`, or with an odd first byte what a process leaves in its place: it is carried out, or put aside; what
    is left of that is carried out likewise."""
    place = directory() / "drain"
    place.mkdir()
    try:
        left = b""
        if data[:1] and data[0] & 1:
            left = data[1:]
        else:
            (place / "drain.json").write_bytes(data[1:])
        site = Site(place, left=left)
        view = site.drain.view()
        as_json(view)
        "\n".join(drain_lines(msgspec.to_builtins(view), 1000.0)).encode()
        after = Site(place, left=site.drain.left())
        assert after.drain.view() == view
    finally:
        shutil.rmtree(place)


def run_services(data: bytes) -> None:
    """`services.json`, of this boot of the host: a service goes on as it says, or as if there were none; what is known
    of it then can be written, and read again."""
    place = directory() / NAME
    place.write_bytes(b'{"boot_id":"b","services":{"web":' + data + b"}}")
    rig, clock = clocked(damping_half_life_s=60.0)
    rig.begin_start()
    rig.services.remember_crashed(ServiceFile(str(directory()), of=lambda _: None, boot_id=lambda: "b").load())
    place.unlink()
    rig.services.apply("mqtt", "web", SERVICE)
    rig.settle()
    for backend, reason in (("a", ""), ("b", "down")):
        rig.result(backend, reason)
    rig.services.release()
    rig.settle()
    clock.pass_(1e4, rig)
    as_json(rig.services.view("web"))
    known = rig.services.saved_of("web")
    assert known is not None
    assert msgspec.json.decode(msgspec.json.encode(known), type=type(known)) == known


def service_state(reason: str) -> SavedService:
    """What is known of a service whose backend is well, or fails for this reason."""
    rig, _ = clocked()
    backends = (Backend(id="a", addresses=(A,)),)
    rig.services.apply("mqtt", "web", Service(addresses=("10.64.9.1",), backends=backends, check=TCP))
    rig.settle()
    rig.result("a", reason)
    saved = rig.services.saved_of("web")
    assert saved is not None
    return saved


# What is right


def service_seeds() -> Iterator[bytes]:
    """Of a service that works, and of one whose backend has failed."""
    for reason in ("", "down"):
        yield msgspec.json.encode(service_state(reason))


def drain_seeds() -> Iterator[bytes]:
    """Orders as they are saved, at each stage, and what a process leaves of them."""
    for stage in DrainStage:
        for order in (Order(7.0, all=True), Order(7.0, until=4e9, boot_id="boot1", before=Order(6.0))):
            noted = Saved(order, stage, 8.0, (("", Family.IPV4_UNICAST, b"\x20\x0a\x40\1\5"),))
            yield b"\0" + msgspec.json.encode(noted)
            yield b"\1" + msgspec.msgpack.encode(LeftDrain(noted, 7.0, "disk"))


def _said() -> list[bytes]:
    return [
        update(MANDATORY, b"\x10\x0a\1\x10\x0a\3\x10\x0a\5"),
        update(ORIGIN + attribute(2, bytes.fromhex("02020000feb10000ff14"), 0x40) + NEXT_HOP, b"\x10\x0a\1\x10\x0a\4"),
        update(MANDATORY, b"\x10\x0a\3\x10\x0a\4"),
        update(withdrawn=b"\x10\x0a\1"),
        update(reach(2, 1, GLOBAL, b"\x20\x20\1\x0d\xb8") + ORIGIN + AS_PATH),
        update(reach(25, 70, b"\x0a\0\1\2", b"".join(EVPN_ROUTES[:3])) + ORIGIN + AS_PATH),
        update(MANDATORY + attribute(4, b"\0\0\0\7", 0x80), b"\x10\x0a\4"),
    ]


def handed_over_seeds() -> Iterator[bytes]:
    """The same conversation, handed over at different points."""
    for first, second in ((0, 0), (3, 2), (7, 0), (5, 1)):
        for who in (0b00_01_10_00, 0b10_10_01_00):
            for pace in (0, 1, 3, 7):
                yield bytes((first, second, who, pace)) + NEXT.join(_said())


def filled_rib() -> SavedRib:
    """What a process leaves that has heard something of each neighbor."""
    process = Process()
    for number, body in enumerate(_said()):
        process.hear(number % 3, body)
    return process.leave(None)


TARGETS = {
    "handed-over": Target(
        run_handed_over,
        (saved, restore, restored_table, prepared, policy, policy_match),
        handed_over_seeds,
        messages=2 * MOST_UPDATES,
        share=OF_NEIGHBORS,
    ),
    "drain": Target(run_drain, (Drain.restore, Drain._read_file, Drain._go_on, Drain.view, drain_lines), drain_seeds),
    "services": Target(
        run_services,
        (ServiceFile.load, SavedHealth, saved_standing, Services.remember_crashed, Services.apply, Services._stand),
        service_seeds,
        messages=4,
    ),
}
