"""An orchestrator for tests with the whole daemon: a broker beside it, what it publishes there, what it hears."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from labs.daemons import Mosquitto
from labs.namespace import Namespace
from labs.process import LoggedProcess
from tests.daemon.fabric import Host, table

BASE = "bgpd/v1/hosts/host1"
MQTT = table("[workload.mqtt]", broker="mqtt://127.0.0.1:1883", session_expiry_s=3600, initial_wait_s=2)
API = table("[workload.api]")


class Orchestrator:
    """Mosquitto (which keeps what is retained over its death), and a client that hears all; a context manager."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._directory = namespace.make_directory("orchestrator")
        config = "listener 1883 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        config += "persistence true\nautosave_on_changes true\nautosave_interval 1\n"
        config += f"persistence_location {self._directory}/\n"
        self.broker = Mosquitto(namespace, config)
        self._listener: LoggedProcess | None = None
        self._listen()

    def __enter__(self) -> Orchestrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.stop()
        self.broker.stop()

    def _listen(self) -> None:
        self._heard = Path(tempfile.mkstemp(dir=self._directory, suffix=".heard")[1])
        command = ["mosquitto_sub", "-q", "1", "-t", f"{BASE}/#", "-F", "%t %p"]
        self._listener = self._namespace.popen(*command, log_path=self._heard)

    def heard(self, topic: str) -> list[Any]:
        """All that was heard on a topic below the host, oldest first: JSON, None for an empty payload."""
        found = []
        for line in self._heard.read_text(errors="replace").splitlines():
            name, _, body = line.partition(" ")
            if name == f"{BASE}/{topic}":
                found.append(json.loads(body) if body else None)
        return found

    def latest(self, topic: str) -> Any:
        """What was heard last on a topic; None if it was cleared, or nothing was heard."""
        return (self.heard(topic) or [None])[-1]

    def retained(self, topic: str) -> Any:
        """What the broker tells who subscribes now."""
        said = self._namespace.run(
            "mosquitto_sub", "-t", f"{BASE}/{topic}", "--retained-only", "-C", "1", "-W", "2", check=False
        )
        return json.loads(said) if said.strip() else None

    def publish(self, topic: str, payload: Any) -> None:
        """Retained; `payload` is text, or what becomes JSON."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        path = self._directory / "payload"
        path.write_text(text)
        body = ["-f", str(path)] if text else ["-n"]
        self._namespace.run("mosquitto_pub", "-q", "1", "-r", "-t", f"{BASE}/{topic}", *body)

    def workload(self, id: str, *addresses: str, **fields: Any) -> None:
        """Claim addresses, on pod1 unless `fields` say otherwise; without addresses the claim is deleted."""
        payload = {"addresses": addresses, "interface": "pod1", **fields}
        self.publish(f"workloads/{id}", payload if addresses else "")

    def state(self, id: str) -> Any:
        """The report of a workload as heard last."""
        return self.latest(f"workloads/{id}/state")

    def wait_state(self, host: Host, id: str, state: str) -> Any:
        """Wait until a workload's report has this state; the report."""
        host.wait(lambda: (self.state(id) or {}).get("state") == state, f"{id} to be told {state}")
        return self.state(id)

    def lose_all(self) -> None:
        """The broker comes back without anything that was retained, and without its sessions."""
        self.broker.kill()
        for path in self._directory.glob("mosquitto.db*"):
            path.unlink()
        self.broker.start()

    def forget(self, host: Host) -> None:
        """Delete every workload and service, so that the next test begins with nothing."""
        for kind in ("workloads", "services"):
            names = {
                line.partition(" ")[0].removeprefix(f"{BASE}/{kind}/").partition("/")[0]
                for line in self._heard.read_text(errors="replace").splitlines()
                if line.startswith(f"{BASE}/{kind}/")
            }
            for name in sorted(names):
                if self.latest(f"{kind}/{name}") is not None:
                    self.publish(f"{kind}/{name}", "")
        host.wait(lambda: not [view for view in host.get("workloads") if view["source"] == "mqtt"], "no claim by MQTT")
