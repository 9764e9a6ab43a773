"""What orchestrators say: workloads by MQTT and by the API, whole generations, lies, and a broker that is gone."""

from __future__ import annotations

import json
from collections.abc import Callable

from labs.process import LabError
from tests.chaos.model import BACKENDS, CONTESTED, PLUGGED, SERVICE, Claim
from tests.chaos.tenant import VM_INTERFACE, VRF
from tests.chaos.world import World

IDS = 20
BROKER = "broker"
BAD_PAYLOADS = ("{", '{"addresses": ["10.64.1.300"]}', '{"addresses": [], "interface": "pod1"}', "[]", '"pod"', "{}")


class ClaimSteps:
    """Each step is a method; what it does is chosen by `world.chance`, and by the model."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._network = world.network
        self._model = world.model
        self._generation = 0
        self._has_lied = False

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.publish,
            self.unpublish,
            self.lie,
            self.lose_the_broker,
            self.lose_all_of_the_broker,
            self.put,
            self.put_nonsense,
            self.delete,
            self.claim_twice,
            self.offer_service,
            self.plug,
            self.unplug,
        ]

    def calm(self) -> None:
        """The orchestrator says what is true, if it did not."""
        if self._has_lied:
            self._sync()

    # By MQTT.

    def publish(self) -> None:
        """Some workloads come or change, then the generation is told."""
        if self._is_silent():
            return
        chosen = self._numbers()
        for number in chosen:
            self._publish(f"m{number}", self._claim(1, number))
        self._sync()
        self._world.detail = f"{len(chosen)} of {len(self._model.mqtt)}"

    def unpublish(self) -> None:
        """Some workloads go."""
        if self._is_silent():
            return
        for id in self._some(self._model.mqtt):
            self._forget(self._model.mqtt, id)
            self._network.feed.publish(f"workloads/{id}", "")
        self._sync()
        self._world.detail = f"{len(self._model.mqtt)} stay"

    def lie(self) -> None:
        """Nonsense about what there is, a generation that is not whole, one of before: nothing is deleted for it."""
        if self._is_silent():
            return
        chance, model = self._world.chance, self._model
        kind = chance.choice(("nonsense", "incomplete", "old", "sync"))
        self._world.detail = kind
        if kind == "nonsense" and model.mqtt:
            self._network.feed.publish(f"workloads/{chance.choice(sorted(model.mqtt))}", chance.choice(BAD_PAYLOADS))
        elif kind == "incomplete":
            self._generation += 1
            self._say(self._generation, len(model.mqtt) + 3)
        elif kind == "old":
            self._say(max(0, self._generation - 5), 0)
        elif kind == "sync":
            self._network.feed.publish("sync", chance.choice(BAD_PAYLOADS))
        self._has_lied = True

    def lose_the_broker(self) -> None:
        """It is away until that is repaired, and keeps what it had."""
        if self._is_silent():
            return
        self._network.feed.broker.kill()

        def repair() -> None:
            self._network.feed.broker.start()
            self._publish_all()

        self._world.breaks(BROKER, repair)

    def lose_all_of_the_broker(self) -> None:
        """It comes back with nothing; the orchestrator publishes a generation that lacks some workloads."""
        if self._is_silent():
            return
        self._network.feed.lose_all()
        for id in self._some(self._model.mqtt):
            self._forget(self._model.mqtt, id)
        self._publish_all()
        self._world.detail = f"{len(self._model.mqtt)} stay"

    def _is_silent(self) -> bool:
        return self._world.has_broken(BROKER)

    def _publish_all(self) -> None:
        for id, claim in self._model.mqtt.items():
            self._publish(id, claim)
        self._sync()

    def _publish(self, id: str, claim: Claim) -> None:
        self._learn(self._model.mqtt, id, claim)
        self._network.feed.workload(id, *claim.addresses, interface=claim.interface, vrf=claim.vrf)

    def _sync(self) -> None:
        self._generation += 1
        self._say(self._generation, len(self._model.mqtt))
        self._has_lied = False

    def _say(self, generation: int, count: int) -> None:
        self._network.feed.publish("sync", {"generation": generation, "count": count, "services": 0})

    # By the API.

    def put(self) -> None:
        for number in self._numbers():
            self._put(f"a{number}", self._claim(2, number))
        self._world.detail = f"{len(self._model.api)} now"

    def delete(self) -> None:
        for id in self._some({id: claim for id, claim in self._model.api.items() if not claim.mac}):
            self._network.delete_workload(id)
            self._forget(self._model.api, id)
        self._world.detail = f"{len(self._model.api)} stay"

    def put_nonsense(self) -> None:
        chance = self._world.chance
        body = json.loads('{"addresses": ["10.64.2.300"], "interface": "pod1"}')
        body[chance.choice(("addresses", "interface", "colour"))] = chance.choice((1, None, [[]], "?" * 300))
        status, answer = self._network.order("PUT", f"workloads/a{chance.randrange(IDS)}", body)
        if not 400 <= status < 500:
            raise LabError(f"nonsense was answered with {status}: {answer}")

    def claim_twice(self) -> None:
        """An address that MQTT and the API both claim, on two interfaces; or such a claim ends."""
        chance = self._world.chance
        number = chance.randrange(len(CONTESTED))
        address = CONTESTED[number]
        by_api = chance.random() < 0.5
        if by_api or self._is_silent():
            self._toggle_api(f"ac{number}", Claim((address,), "pod2"))
        else:
            self._toggle_mqtt(f"mc{number}", Claim((address,), "pod1"))
        self._world.detail = address

    def _toggle_api(self, id: str, claim: Claim) -> None:
        if id in self._model.api:
            self._network.delete_workload(id)
            self._forget(self._model.api, id)
        else:
            self._put(id, claim)

    def _toggle_mqtt(self, id: str, claim: Claim) -> None:
        if id in self._model.mqtt:
            self._forget(self._model.mqtt, id)
            self._network.feed.publish(f"workloads/{id}", "")
        else:
            self._publish(id, claim)
        self._sync()

    def _put(self, id: str, claim: Claim) -> None:
        self._network.put_workload(id, claim)
        self._learn(self._model.api, id, claim)

    def offer_service(self) -> None:
        """A service with one backend or both, or none any more."""
        model, world = self._model, self._world
        backends = set(world.chance.choice((["10.64.0.1"], ["10.64.0.3"], sorted(BACKENDS), [])))
        if backends:
            parts = [{"id": BACKENDS[address], "addresses": [address]} for address in sorted(backends)]
            body = {"addresses": [SERVICE], "backends": parts}
            status, answer = self._network.order("PUT", "services/web?timeout_s=1", body)
        else:
            status, answer = self._network.order("DELETE", "services/web")
        if status not in (200, 202, 404):
            raise LabError(f"the service was refused: {status} {answer}")
        model.served_by = backends
        world.touch(SERVICE)
        world.detail = f"by {sorted(backends)}"

    # By the kernel's routes, as a CNI plugin does it.

    def plug(self) -> None:
        chosen = self._world.chance.sample(PLUGGED, self._world.chance.randrange(1, 20))
        new = [address for address in chosen if address not in self._model.plugged]
        self._network.host_namespace.batch(*(f"route add {address} dev pod3" for address in new))
        self._model.plugged.update(new)
        self._world.touch(*chosen)
        self._world.detail = f"{len(self._model.plugged)} now"

    def unplug(self) -> None:
        """Half of them go."""
        plugged = sorted(self._model.plugged)
        gone = self._world.chance.sample(plugged, len(plugged) // 2)
        self._network.host_namespace.batch(*(f"route del {address} dev pod3" for address in gone))
        self._model.plugged.difference_update(gone)
        self._world.touch(*gone)
        self._world.detail = f"{len(self._model.plugged)} stay"

    # What the model knows of it.

    def _learn(self, claims: dict[str, Claim], id: str, claim: Claim) -> None:
        if claims.get(id) != claim:
            self._forget(claims, id)
            self._world.touch(*claim.addresses)
        claims[id] = claim

    def _forget(self, claims: dict[str, Claim], id: str) -> None:
        if id in claims:
            self._world.touch(*claims.pop(id).addresses)

    # What is chosen.

    def _numbers(self) -> list[int]:
        return self._world.chance.sample(range(1, IDS + 1), self._world.chance.randrange(1, 6))

    def _claim(self, source: int, number: int) -> Claim:
        addresses = [f"10.64.{source}.{number}", f"2001:db8:64:{source}::{number:x}"]
        chance = self._world.chance
        interface, vrf = chance.choice((("pod1", ""), ("pod2", ""), (VM_INTERFACE, VRF)))
        return Claim(tuple(addresses[: chance.randrange(1, 3)]), interface, vrf)

    def _some(self, claims: dict[str, Claim]) -> list[str]:
        ids = sorted(claims)
        return self._world.chance.sample(ids, min(len(ids), self._world.chance.randrange(1, 6)))
