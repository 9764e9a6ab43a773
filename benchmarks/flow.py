"""A steady UDP flow through the host, spread over many of its routes: whose packets arrive, and how many are lost.

`send` runs in the pod's namespace and its packets are forwarded by the host; `receive` runs in each leaf's, which takes
every address as its own. Each prints one JSON line at its end: python -m benchmarks.flow send|receive JSON.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

PORT = 4271
PAYLOAD = struct.Struct("=Q")


def send(*, destinations: list[str], rate: int) -> dict[str, int]:
    """Sends `rate` numbered packets a second to the destinations in turn, until stdin says something or ends."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setblocking(False)
    burst = max(1, rate // 1000)
    number = refused = 0
    start = time.monotonic()
    print(json.dumps({"started_ns": time.monotonic_ns()}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        delay = start + number / rate - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        for _ in range(burst):
            try:
                sender.sendto(PAYLOAD.pack(number), (destinations[number % len(destinations)], PORT))
            except OSError:
                refused += 1
            number += 1
    return {"sent": number, "refused": refused}


def receive() -> dict[str, int]:
    """Counts packets until stdin says something or ends, and none has come for 0.2 s."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    receiver.bind(("0.0.0.0", PORT))
    receiver.settimeout(0.2)
    print(json.dumps({"ready": 1}), flush=True)
    received = 0
    while True:
        try:
            receiver.recv(64)
            received += 1
        except TimeoutError:
            if select.select([sys.stdin], [], [], 0)[0]:
                return {"received": received}


def main() -> None:
    """Runs one end."""
    arguments = json.loads(sys.argv[2])
    print(json.dumps(send(**arguments) if sys.argv[1] == "send" else receive()), flush=True)


if __name__ == "__main__":
    main()
