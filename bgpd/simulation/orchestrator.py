"""An orchestrator that publishes on a broker which addresses each host has: by names, and by numbered snapshots. It has
faults of its own: it says an old snapshot again, or half of one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bgpd.model.prefix import format_key, parse_prefix
from bgpd.simulation.broker import Broker

_BASE = "bgpd/v1/hosts"
_KEPT = 8


class Orchestrator:
    """`wanted`: what each host should have: names and addresses, by `interfaces` of the host; `documents`: beside that,
    messages as they are, by topic. After each change it says a new generation."""

    def __init__(self, broker: Broker) -> None:
        self.wanted: dict[str, dict[str, str]] = {}
        self.documents: dict[str, dict[str, bytes]] = {}
        self.interfaces: dict[str, str] = {}
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

    def publish(self, host: str, topic: str, body: bytes) -> None:
        """A message of "workloads/NAME" or "services/NAME" as it is; an empty one ends what it was about."""
        documents = self.documents.setdefault(host, {})
        if body:
            documents[topic] = body
        else:
            documents.pop(topic, None)
        self._publish(host, topic, body)
        self._sync(host)

    def of(self, host: str) -> set[str]:
        """The addresses that a host should have."""
        documents = self.documents.get(host)
        told = documents_of(documents, "workloads") if documents else ()
        return {*self.wanted.get(host, {}).values(), *told}

    def services_of(self, host: str) -> set[str]:
        """The addresses of the services that a host should offer."""
        documents = self.documents.get(host)
        return documents_of(documents, "services") if documents else set()

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
            documents = self.documents.get(host, {})
            for name in dict.fromkeys((*there, *wanted)):
                if f"workloads/{name}" not in documents:
                    self._say(host, name)
            for topic, body in documents.items():
                self._publish(host, topic, body)
            self._sync(host)

    def say_old(self, back: int) -> None:
        """An earlier snapshot, as if nothing had happened since."""
        if not self._past or not self.broker.is_up:
            return
        generation, state = self._past[-1 - back % len(self._past)]
        for host, wanted in state.items():
            for name, address in wanted.items():
                self._publish(host, f"workloads/{name}", self._payload(host, address))
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
        address = self.wanted[host].get(name)
        self._publish(host, f"workloads/{name}", self._payload(host, address) if address is not None else b"")

    def _publish(self, host: str, topic: str, body: bytes) -> None:
        if self.broker.is_up:
            self.broker.publish(f"{_BASE}/{host}/{topic}", body)

    def _payload(self, host: str, address: str) -> bytes:
        return msgspec.json.encode({"addresses": [address], "interface": self.interfaces.get(host, "veth0")})

    def _sync(self, host: str) -> None:
        self._generation += 1
        self._past = [*self._past, (self._generation, {one: dict(its) for one, its in self.wanted.items()})][-_KEPT:]
        self._publish_sync(host, self._generation, len(self.wanted.get(host, ())))

    def _publish_sync(self, host: str, generation: int, count: int) -> None:
        documents = self.documents.get(host, {})
        services = sum(topic.startswith("services/") for topic in documents)
        body = {
            "generation": generation,
            "count": count + len(documents) - services,
            "services": services,
            "epoch": f"{self._epochs}",
        }
        self._publish(host, "sync", msgspec.json.encode(body))


def documents_of(documents: Mapping[str, bytes], kind: str) -> set[str]:
    """The addresses in the main table of those "workloads" or "services" that messages are about."""
    bodies = [msgspec.json.decode(body) for topic, body in documents.items() if topic.startswith(f"{kind}/")]
    texts = [text for body in bodies if not body.get("vrf") for text in body["addresses"]]
    return {format_key(*parse_prefix(text)) for text in texts}


def _name(address: str) -> str:
    return f"fed-{address.partition('/')[0]}"
