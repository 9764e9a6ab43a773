"""An orchestrator that publishes on a broker which addresses each host has: by names, and by numbered snapshots. It has
faults of its own: it says an old snapshot again, or half of one."""

from __future__ import annotations

import msgspec

from bgpd.simulation.broker import Broker

_BASE = "bgpd/v1/hosts"
_KEPT = 8


class Orchestrator:
    """`wanted`: what each host should have: names and addresses. After each change it says a new generation."""

    def __init__(self, broker: Broker) -> None:
        self.wanted: dict[str, dict[str, str]] = {}
        self.broker = broker
        self._epochs = 0
        self._generation = 0
        self._past: list[tuple[int, dict[str, dict[str, str]]]] = []
        broker.is_back = self.say_all

    def put(self, host: str, address: str) -> None:
        """A host is to have a workload."""
        self.wanted.setdefault(host, {})[_name(address)] = address
        self._say(host, _name(address))
        self._sync(host)

    def delete(self, host: str, address: str) -> None:
        """Not any more."""
        if self.wanted.setdefault(host, {}).pop(_name(address), None) is not None:
            self._say(host, _name(address))
            self._sync(host)

    def of(self, host: str) -> set[str]:
        """The addresses that a host should have."""
        return set(self.wanted.get(host, {}).values())

    def begin_anew(self) -> None:
        """It has lost its count, and begins another epoch."""
        self._epochs += 1
        self._generation = 0
        self._past.clear()
        self.say_all()

    def say_all(self) -> None:
        """Whole snapshots, by names; what is there besides is ended by its name."""
        if not self.broker.is_up:
            return
        for host, wanted in self.wanted.items():
            start = f"{_BASE}/{host}/workloads/"
            there = [topic.removeprefix(start) for topic in self.broker.retained if topic.startswith(start)]
            for name in dict.fromkeys((*there, *wanted)):
                self._say(host, name)
            self._sync(host)

    def say_old(self, back: int) -> None:
        """An earlier snapshot, as if nothing had happened since."""
        if not self._past or not self.broker.is_up:
            return
        generation, state = self._past[-1 - back % len(self._past)]
        for host, wanted in state.items():
            for name, address in wanted.items():
                self.broker.publish(f"{_BASE}/{host}/workloads/{name}", _payload(address))
            self._publish_sync(host, generation, len(wanted))

    def say_half(self) -> None:
        """A new generation of which the broker has only half."""
        if not self.broker.is_up:
            return
        for host, wanted in self.wanted.items():
            for name in sorted(wanted)[::2]:
                self.broker.retained.pop(f"{_BASE}/{host}/workloads/{name}", None)
            self._sync(host)
        self.broker.drop_all()

    def _say(self, host: str, name: str) -> None:
        if self.broker.is_up:
            address = self.wanted[host].get(name)
            body = _payload(address) if address is not None else b""
            self.broker.publish(f"{_BASE}/{host}/workloads/{name}", body)

    def _sync(self, host: str) -> None:
        self._generation += 1
        self._past = [*self._past, (self._generation, {one: dict(its) for one, its in self.wanted.items()})][-_KEPT:]
        self._publish_sync(host, self._generation, len(self.wanted[host]))

    def _publish_sync(self, host: str, generation: int, count: int) -> None:
        if self.broker.is_up:
            body = msgspec.json.encode(
                {"generation": generation, "count": count, "services": 0, "epoch": f"{self._epochs}"}
            )
            self.broker.publish(f"{_BASE}/{host}/sync", body)


def _name(address: str) -> str:
    return f"fed-{address.partition('/')[0]}"


def _payload(address: str) -> bytes:
    return msgspec.json.encode({"addresses": [address], "interface": "veth0"})
