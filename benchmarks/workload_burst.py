"""python -m benchmarks.workload_burst: 10,000 workloads over MQTT and over the local API, and the latency of one.

Runs the workload half of the daemon with a kernel that acknowledges at once, against a real Mosquitto in a network
namespace of its own; needs root. Prints figures, asserts nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt
import msgspec
import structlog

from bgpd.loop import TimedSelector, new_event_loop
from tests.workload.broker import Broker, Node, orchestrator, own_network, until

COUNT = 10_000
SINGLES = 200


def payload(number: int, *, second: int = 100) -> bytes:
    address = f"10.{second + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return msgspec.json.encode({"addresses": [address], "interface": "pod1"})


async def feed() -> None:
    """The orchestrator, in a process of its own: says when its last message was acknowledged."""
    async with aiomqtt.Client(
        "127.0.0.1", username="orchestrator", password="secret", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        client.pending_calls_threshold = 1000
        base = "bgpd/v1/hosts/node1"
        for start in range(0, COUNT, 200):
            await asyncio.gather(
                *(
                    client.publish(f"{base}/workloads/w{i}", payload(i), qos=1, retain=True)
                    for i in range(start, start + 200)
                )
            )
        await client.publish(f"{base}/sync", msgspec.json.encode({"generation": 1, "count": COUNT}), qos=1, retain=True)
    print(time.time(), flush=True)


async def measure_mqtt(directory: Path, selector: TimedSelector) -> None:
    password = directory / "password"
    password.write_text("secret1")
    node = Node(directory / "state", password_file=str(password))
    await node.start()
    mqtt = node.workloads.mqtt
    assert mqtt is not None
    await until(lambda: mqtt.connected)
    selector.reset_longest()
    feeder = await asyncio.create_subprocess_exec(sys.executable, "-m", __spec__.name, "feed", stdout=subprocess.PIPE)
    await until(lambda: len(node.announced) == COUNT, timeout_s=60)
    done = time.time()
    output, _ = await feeder.communicate()
    print(f"MQTT, {COUNT} workloads: announced {max(0.0, done - float(output)) * 1000:.0f} ms after the last was sent")
    print(f"MQTT, {COUNT} workloads: loop held at most {selector.reset_longest() * 1000:.1f} ms")
    await measure_single(node)
    await node.stop()


async def measure_single(node: Node) -> None:
    delays = []
    async with orchestrator() as feed:
        await asyncio.sleep(2)
        for i in range(SINGLES):
            began = time.perf_counter()
            sent = asyncio.create_task(feed.put(f"node1/workloads/single{i}", payload(i, second=200)))
            while f"10.200.0.{i}/32" not in node.announced:  # noqa: ASYNC110 (an event would be later)
                await asyncio.sleep(0)
            delays.append((time.perf_counter() - began) * 1000)
            await sent
    p99 = statistics.quantiles(delays, n=100)[98]
    print(f"MQTT, one workload: announced after {statistics.median(delays):.1f} ms (median), {p99:.1f} ms (p99)")


async def measure_api(directory: Path, selector: TimedSelector) -> None:
    node = Node(directory / "api-state", mqtt=False)
    await node.start()
    api = node.workloads.api
    assert api is not None
    selector.reset_longest()
    began = time.perf_counter()
    for start in range(0, COUNT, 100):
        await asyncio.gather(
            *(api.put_workload(f"w{i}", payload(i), who="benchmark") for i in range(start, start + 100))
        )
    print(f"API, {COUNT} workloads: announced and answered in {time.perf_counter() - began:.2f} s")
    print(f"API, {COUNT} workloads: loop held at most {selector.reset_longest() * 1000:.1f} ms")
    await node.stop()


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if sys.argv[1:] == ["feed"]:
        asyncio.run(feed())
        return
    gc.set_threshold(20_000, 50, 1000)
    with tempfile.TemporaryDirectory() as name, own_network():
        directory = Path(name)
        (directory / "broker").mkdir()
        broker = Broker(directory / "broker")
        broker.start()
        loop, selector = new_event_loop()
        try:
            loop.run_until_complete(measure_mqtt(directory, selector))
            loop.run_until_complete(measure_api(directory, selector))
        finally:
            broker.stop()
            loop.close()


if __name__ == "__main__":
    main()
