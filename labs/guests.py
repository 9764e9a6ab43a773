"""Guests of one host, shown and checked: ExaBGP's healthcheck, GoBGP and a raw speaker announce by bgpd's sessions.

Plays the guests, lets one leak (a default route, the leaf's address, the host's block, 100,000 prefixes), has a
healthcheck fail, and kills each in turn, under pings that may not lose a packet to the others.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labs.checks import Expectation, await_all, sessions
from labs.daemons import Daemon, ExaBgp, Gobgp
from labs.experiments import Experiments
from labs.gobgp_config import gobgp_neighbor, gobgp_router
from labs.kernel import live_next_hops
from labs.namespace import Namespace
from labs.process import LabError, wait_until
from labs.service_traffic import ServiceTraffic
from labs.traffic import Pair

LOOPBACK, BLOCK, SERVICE, PORT = "10.255.1.1", "10.64.1.0/26", "10.64.100.1", 8000
GUESTS = {"exabgp": "10.9.1.1", "gobgp": "10.9.2.1", "box": "10.9.3.1"}
"""What each guest announces."""
LEAKS = ("0.0.0.0/0", "10.0.11.0/32", "10.0.11.0/31", BLOCK, "10.64.0.0/16", "10.99.0.1/32")
"""What the box announces, too: a default route, the leaf's address and network, the host's block, what covers it, an
address of another host."""
MANY = 100_000
SESSION_TIMEOUT_S, HOLD_TIME_S = 15.0, 9
SETTLED_S = 0.5
"""How long it is looked whether a leaf hears what it should not."""


class Guests(Experiments):
    """For `guests.clab.yml`."""

    def bring_up(self) -> None:
        """Start the guests and the service, then wait until the leaves have what they should, and no more."""
        self._playing: dict[str, Daemon | RawSpeaker] = {}
        self._headline("the guests start, and the service is told")
        with self._checked("guests started, service told") as detail:
            self._directory = self.lab.namespaces["host"].make_directory("guests")
            (self._directory / "alive").touch()
            for name in GUESTS:
                self._play(name)
            self._add_service()
            detail.append(
                "ExaBGP and GoBGP on the host, a raw speaker in the box; a service with a health check and a probe"
            )
        self.converge("convergence")

    def expected(self) -> Iterable[Expectation]:
        """Sessions; in the leaves what the host announces, and nothing else of it."""
        return [*sessions(self.lab), *self._leaf_routes()]

    def steps(self) -> None:
        """What guests do wrong, and what that may cost others: nothing."""
        self._service_answers()
        self._leaks()
        self._too_many()
        self._healthcheck_fails()
        for name in GUESTS:
            self._is_killed(name)
        self._backend_fails()

    def show_tables(self) -> None:
        """While the guests are there."""
        super().show_tables()
        for guest in self._playing.values():
            guest.stop()

    def commands(self, host: str) -> list[list[str]]:
        """The sessions, the claims, and the path of a guest's address."""
        shown = ("neighbors", "workloads", "services", "aggregates")
        return [*(["show", view] for view in shown), ["explain", GUESTS["box"]]]

    # Who plays.

    def _play(self, name: str) -> None:
        namespaces = self.lab.namespaces
        if name == "exabgp":
            self._playing[name] = ExaBgp(namespaces["host"], exabgp_config(self._directory))
        elif name == "gobgp":
            self._playing[name] = gobgp = Gobgp(namespaces["host"], GOBGP)
            gobgp.run("global", "rib", "add", f"{GUESTS[name]}/32", "-a", "ipv4")
        else:
            self._playing[name] = speaker = RawSpeaker(namespaces["box"], "10.70.0.2", "10.70.0.1", asn=65303)
            speaker.announce(f"{GUESTS[name]}/32")

    def _add_service(self) -> None:
        daemon = self.lab.bgpd["host"]
        daemon.cli("workload", "add", "web", "--address", "10.64.1.2", "--interface", "web")
        check = {"type": "tcp", "port": PORT, "interval_s": 0.2, "timeout_s": 0.2, "rise": 2, "fall": 2}
        payload = {
            "addresses": [SERVICE],
            "backends": [{"id": "web", "addresses": ["10.64.1.2"]}],
            "check": check,
            "probe": check,
        }
        file = self._directory / "service.json"
        file.write_text(json.dumps(payload))
        daemon.cli("service", "add", "web", str(file))

    # What the leaves must have.

    def _leaf_routes(self, without: str = "") -> Iterator[Expectation]:
        announced = {LOOPBACK, BLOCK, SERVICE, *GUESTS.values()} - {without}
        for leaf in self.lab.topology.with_role("leaf"):
            end = self.lab.topology.link_between(leaf.name, "host")[0].interface
            routes = live_next_hops(self.lab.namespaces[leaf.name], ipv6=False)
            for prefix in announced:
                yield f"{leaf.name}: {prefix} by the host", routes.get(prefix) == [end]
            for prefix in routes:
                if prefix.startswith(("10.9.", "10.64.", "10.99.", "10.255.", "default")):
                    yield f"{leaf.name}: no {prefix}", prefix in announced

    def _costs_others_nothing(self, check: str, happens: Callable[[list[str]], object], *, of: str = "") -> None:
        """Pings from the client to all that is announced, but for what is `of` the guest; none may be lost."""
        addresses = [LOOPBACK, SERVICE, *(address for name, address in GUESTS.items() if name != of)]
        self._headline(check)
        with self._checked(check) as detail:
            pairs = [Pair(self.lab.namespaces["client"], address) for address in addresses]
            with self.pings(detail, pairs=pairs, limit_ms=0):
                happens(detail)
                time.sleep(SETTLED_S)

    def _await(self, detail: list[str], what: str, without: str = "") -> None:
        taken_s = await_all(self.lab, lambda: list(self._leaf_routes(without)))
        detail.append(f"{what} after {1000 * taken_s:.0f} ms")

    # What happens.

    def _service_answers(self) -> None:
        self._headline("the service answers")
        with self._checked("the service answers the client") as detail:
            flows = ServiceTraffic(self.lab.namespaces["client"], SERVICE, PORT, flows=4).stop()
            if any(flow.backend != "web" for flow in flows):
                raise LabError(f"flows came to {[flow.backend or flow.error for flow in flows]}")
            detail.append("4 connections")

    def _leaks(self) -> None:
        def leak(detail: list[str]) -> None:
            box = self._playing["box"]
            assert isinstance(box, RawSpeaker)
            box.announce(*LEAKS)
            time.sleep(SETTLED_S)
            self._await(detail, "nothing of it in the leaves")
            refused = [
                view
                for view in self.lab.bgpd["host"].show("received")
                if view["rejected"] and view["neighbor"] == "box"
            ]
            detail.append(f"{len(refused)} refused: " + ", ".join(sorted(view["prefix"] for view in refused)))
            box.withdraw(*LEAKS)

        self._costs_others_nothing("a guest leaks a default route, the leaf's address, the host's block", leak)

    def _too_many(self) -> None:
        def flood(detail: list[str]) -> None:
            box = self._playing["box"]
            assert isinstance(box, RawSpeaker)
            with contextlib.suppress(OSError):
                box.announce(*(f"10.{80 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32" for n in range(MANY)))
            self._await(detail, "its session ended, its address withdrawn", GUESTS["box"])
            box.stop()
            time.sleep(1.5)
            self._play("box")
            self._await(detail, "back")

        self._costs_others_nothing(f"a guest that may announce ten announces {MANY:,} prefixes", flood, of="box")

    def _healthcheck_fails(self) -> None:
        def fail(detail: list[str]) -> None:
            (self._directory / "alive").unlink()
            self._await(detail, "withdrawn", GUESTS["exabgp"])
            (self._directory / "alive").touch()
            self._await(detail, "announced again")

        self._costs_others_nothing("ExaBGP's healthcheck fails, and recovers", fail, of="exabgp")

    def _is_killed(self, name: str) -> None:
        def kill(detail: list[str]) -> None:
            self._playing[name].kill()
            self._await(detail, "withdrawn", GUESTS[name])
            self._playing[name].stop()
            self._play(name)
            self._await(detail, "back")

        self._costs_others_nothing(f"guest {name} is killed, and comes back", kill, of=name)

    def _backend_fails(self) -> None:
        self._headline("the backend of the service fails, and recovers")
        with self._checked("the service is announced only while it works") as detail:
            self.lab.programs["web"].kill()
            self._await(detail, "withdrawn", SERVICE)
            self.lab.start_program("web")
            self._await(detail, "announced again")


class RawSpeaker:
    """A BGP speaker of raw bytes that dials: established at once, kept alive until it is ended."""

    def __init__(self, namespace: Namespace, source: str, to: str, *, asn: int) -> None:
        self._asn, self._source, self._to = asn, source, to
        self._namespace = namespace
        wait_until(self._connect, SESSION_TIMEOUT_S, f"{to} to take a session of {source}")
        self._is_over = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()

    def _connect(self) -> bool:
        """Whether the host answers an OPEN; it may refuse who has just ended a session."""
        capabilities = bytes((1, 4, 0, 1, 0, 1)) + bytes((65, 4)) + self._asn.to_bytes(4, "big")
        parameters = bytes((2, len(capabilities))) + capabilities
        router_id = socket.inet_aton(self._source)
        head = struct.pack("!BHH4sB", 4, self._asn, HOLD_TIME_S, router_id, len(parameters))
        try:
            with self._namespace.entered():
                made = socket.create_connection((self._to, 179), timeout=5, source_address=(self._source, 0))
        except OSError:
            return False
        try:
            made.sendall(_message(1, head + parameters) + _message(4))
            self._socket = made
            return bool(made.recv(4096))
        except OSError:
            return False

    def announce(self, *prefixes: str) -> None:
        """Announce these, with itself as the next hop."""
        attributes = bytes((0x40, 1, 1, 0)) + struct.pack("!BBBBBI", 0x40, 2, 6, 2, 1, self._asn)
        attributes += bytes((0x40, 3, 4)) + socket.inet_aton(self._source)
        for start in range(0, len(prefixes), 500):
            body = struct.pack("!HH", 0, len(attributes)) + attributes + _nlri(prefixes[start : start + 500])
            self._socket.sendall(_message(2, body))

    def withdraw(self, *prefixes: str) -> None:
        """Withdraw these."""
        nlri = _nlri(prefixes)
        self._socket.sendall(_message(2, struct.pack("!H", len(nlri)) + nlri + bytes(2)))

    def kill(self) -> None:
        """End without a word."""
        self.stop()

    def stop(self) -> None:
        """End; may be called more than once."""
        self._is_over.set()
        self._socket.close()

    def _live(self) -> None:
        with contextlib.suppress(OSError):
            while not self._is_over.wait(1.0):
                self._socket.sendall(_message(4))


def _message(kind: int, body: bytes = b"") -> bytes:
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def _nlri(prefixes: Iterable[str]) -> bytes:
    out = b""
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        out += bytes((int(length),)) + socket.inet_aton(address)[: (int(length) + 7) // 8]
    return out


def exabgp_config(directory: Path) -> str:
    """ExaBGP with its healthcheck, which looks for the file "alive"."""
    check = f"{Path(sys.executable).with_name('exabgp-healthcheck')} --cmd 'test -e {directory}/alive' --no-syslog"
    check += f" --ip {GUESTS['exabgp']}/32 --no-ip-setup --withdraw-on-down -i 1 --fast-interval 0 --rise 1 --fall 1"
    return f"""
process check {{ run {check}; encoder text; }}
neighbor 127.0.0.1 {{
  router-id 10.255.9.1; local-address 127.0.0.2; local-as 65203; peer-as 65203;
  family {{ ipv4 unicast; }}
  api {{ processes [ check ]; }}
}}
"""


GOBGP = gobgp_router(65302, "10.255.9.2", "port = -1\n") + gobgp_neighbor(
    "127.0.0.1", 65203, local_address="127.0.0.3", idle_hold_time_after_reset=1
)
