"""A real Mosquitto in a network namespace of the test's own, and a bgpd side that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec

from bgpd.config.schema import Config, RouterConfig, StateConfig, VrfConfig
from bgpd.config.schema_workloads import ApiWorkloadConfig, KernelWorkloadConfig, MqttWorkloadConfig, WorkloadConfig
from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import Link
from bgpd.model.next_hop import NextHops
from bgpd.model.path import Path as RoutePath
from bgpd.model.prefix import format_key
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import ClaimInfo, Presence
from bgpd.workload.feed.api import ApiSource
from bgpd.workload.feed.mqtt import MqttSource
from bgpd.workload.service.address_probes import NoKernel
from bgpd.workload.workloads import Workloads
from tests.waiting import until

CONF = Path(__file__).parents[2] / "conf" / "mosquitto"
PASSWORDS = {"node1": "secret1", "node2": "secret2", "orchestrator": "secret"}


class Broker:
    """Mosquitto with the shipped configuration and ACL, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.extra = ""
        self.unlimited = False

    def start(self) -> None:
        passwords = self.directory / "passwd"
        if not passwords.exists():
            passwords.touch(mode=0o600)
            for user, password in PASSWORDS.items():
                subprocess.run(["mosquitto_passwd", "-b", passwords, user, password], check=True, capture_output=True)
            shutil.copy(CONF / "bgpd.acl", self.directory / "acl")
        text = (CONF / "bgpd.conf").read_text()
        text = text.replace("/etc/mosquitto/bgpd.passwd", str(passwords))
        text = text.replace("/etc/mosquitto/bgpd.acl", str(self.directory / "acl"))
        if self.unlimited:
            text = text.replace("max_packet_size", "#max_packet_size")
        text += f"\nuser root\npersistence_location {self.directory}/\n{self.extra}\n"
        conf = self.directory / "mosquitto.conf"
        conf.write_text(text)
        with (self.directory / "mosquitto.log").open("ab") as output:
            self._process = subprocess.Popen(["mosquitto", "-c", conf], stdout=output, stderr=output)
        for _ in range(200):
            if subprocess.run(["ss", "-Hltn", "sport = :1883"], capture_output=True, check=True).stdout:
                return
            time.sleep(0.02)
        raise RuntimeError((self.directory / "mosquitto.log").read_text())

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait()
            self._process = None


class Orchestrator:
    """A client that may do all, and remembers what it heard: topic to JSON (None for a topic that was cleared)."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: dict[str, Any] = {}
        self.events: list[Any] = []

    async def listen(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            topic = str(message.topic).removeprefix("bgpd/v1/hosts/")
            body = msgspec.json.decode(message.payload) if message.payload else None
            if topic.endswith("/events"):
                self.events.append(body)
            else:
                self.heard[topic] = body

    async def put(self, topic: str, payload: bytes | dict[str, Any]) -> None:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        await self.client.publish(f"bgpd/v1/hosts/{topic}", body, qos=1, retain=True)

    async def workload(self, id: str, *addresses: str, host: str = "node1", **fields: Any) -> None:
        payload = {"addresses": addresses, "interface": "pod1"} | fields
        await self.put(f"{host}/workloads/{id}", payload)

    async def state(self, id: str, wanted: Callable[[Any], object], *, host: str = "node1") -> Any:
        topic = f"{host}/workloads/{id}/state"
        await until(lambda: topic in self.heard and wanted(self.heard[topic]), lambda: self.heard.get(topic))
        return self.heard[topic]


@contextlib.asynccontextmanager
async def orchestrator() -> AsyncIterator[Orchestrator]:
    async with aiomqtt.Client(
        "127.0.0.1", username="orchestrator", password="secret", protocol=aiomqtt.ProtocolVersion.V5, keepalive=5
    ) as client:
        made = Orchestrator(client)
        task = asyncio.create_task(made.listen())
        for topic in ("status", "events", "neighbors/+", "workloads/+/state", "services/+/state"):
            await client.subscribe(f"bgpd/v1/hosts/+/{topic}", qos=1)
        try:
            yield made
        finally:
            task.cancel()


class Node(NoKernel):
    """The workload half of a daemon, with a kernel that acknowledges at once."""

    def __init__(
        self, state: Path, *, mqtt: bool = True, globs: tuple[str, ...] = (), kernel: Host | None = None, **options: Any
    ) -> None:
        """`kernel`: a monitor's, whose events are told by the test; else there are pod1 and pod2."""
        self.announced: dict[str, ClaimInfo] = {}
        self.kernel: dict[str, NextHops] = {}
        self.synchronised = 0
        self._follow = kernel is None
        fields = {"broker": "mqtt://127.0.0.1", "username": "node1"}
        config = Config(
            router=RouterConfig(asn=65203, router_id="10.255.1.1"),
            workload=WorkloadConfig(
                mqtt=MqttWorkloadConfig(**(fields | options)) if mqtt else None,
                api=ApiWorkloadConfig(timeout_s=1),
                kernel=KernelWorkloadConfig(interfaces=globs),
            ),
            state=StateConfig(directory=str(state)),
            vrf=(VrfConfig(name="blue", table=1001),),
        )
        self.presences: dict[str, Presence] = {}
        self.resumed: list[Presence] = []
        self.host = kernel or Host(lambda event: self.workloads.kernel.event(event))
        self.workloads = Workloads(
            config.workloads,
            owner=self,
            kernel=self,
            endpoints=self,
            sessions=self,
            guests=self,
            host=self.host,
            routes=ForeignRoutes(lambda event: None),
            hostname="node1",
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def api(self) -> ApiSource:
        found = self.workloads.find(ApiSource)
        assert found is not None
        return found

    @property
    def mqtt(self) -> MqttSource:
        found = self.workloads.find(MqttSource)
        assert found is not None
        return found

    restarting = False

    def guest_paths(self, guest: str, family: Family, key: bytes) -> tuple[RoutePath, ...]:
        return ()

    def neighbor_views(self) -> tuple[NeighborView, ...]:
        return ()

    def reserved(self, vrf: str, family: Family, key: bytes) -> str:
        return ""

    def presence(self, vrf: str, family: Family, key: bytes) -> Presence | None:
        return self.presences.get(format_key(family, key))

    def workload_resumed(self, vrf: str, family: Family, key: bytes, info: ClaimInfo, known: Presence) -> None:
        self.resumed.append(known)

    def announce_workloads(self, vrf: str, family: Family, keys: list[bytes], info: ClaimInfo) -> None:
        self.announced.update({format_key(family, key): info for key in keys})

    def withdraw_workloads(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        for key in keys:
            del self.announced[format_key(family, key)]

    def set_workload_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        for key, route in changes.items():
            if route is None:
                self.kernel.pop(format_key(family, key), None)
            else:
                self.kernel[format_key(family, key)] = route
        keys = [key for key, route in changes.items() if route is not None]
        asyncio.get_running_loop().call_soon(self.workloads.table.route_acknowledged, vrf, family, keys)

    def set_service_route(
        self, vrf: str, family: Family, key: bytes, members: NextHops, *, resilient: bool, yields: bool = False
    ) -> None:
        self.set_workload_routes(vrf, family, {key: members})

    def workloads_gone(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        """Only EVPN has use for it."""

    def workloads_synchronised(self) -> None:
        self.synchronised += 1

    async def start(self) -> None:
        if self._follow:
            for index, name in enumerate(("pod1", "pod2"), 5):
                self.host.link(Link(index=index, name=name, up=True))
            self.workloads.kernel.replayed()
        await self.workloads.start()
        self.workloads.readiness_changed("")
        self._task = asyncio.create_task(self.workloads.run())

    async def stop(self, *, goodbye: bool = True) -> None:
        if goodbye:
            await self.workloads.stop()
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
