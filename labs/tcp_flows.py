"""Many TCP connections to a service, kept open and used while something happens; says what became of each.

Run inside a namespace; prints one JSON object per flow, a line each, when it gets SIGTERM:

    python labs/tcp_flows.py ADDRESS PORT FLOWS INTERVAL_S

A backend says its name first and then echoes (containerlab/echo_server.py). A flow that breaks stays broken: what
is counted is what a user of the service would have noticed. Imports nothing of this package.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

ANSWER_TIMEOUT_S = 5.0


class Flow:
    """One connection: the backend that answered, requests sent and answered, the slowest answer, why it broke."""

    def __init__(self) -> None:
        self.backend = ""
        self.sent = 0
        self.answered = 0
        self.slowest_ms = 0.0
        self.error = ""

    async def run(self, address: str, port: int, interval_s: float, tried: asyncio.Event) -> None:
        """Connect (`tried` is set then, or when that failed), and send requests until cancelled or broken."""
        writer = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address, port)
                self.backend = (await reader.readuntil(b"\n")).decode().strip()
            tried.set()
            while True:
                request = f"{self.sent:08d}".encode()
                self.sent += 1
                start = time.monotonic()
                writer.write(request)
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await reader.readexactly(len(request))
                if answer != request:
                    self.error = f"asked {request!r}, got {answer!r}"
                    return
                self.answered += 1
                self.slowest_ms = max(self.slowest_ms, 1000 * (time.monotonic() - start))
                await asyncio.sleep(interval_s)
        except TimeoutError:
            self.error = f"no answer within {ANSWER_TIMEOUT_S:.0f} s"
        except (OSError, EOFError) as error:
            self.error = str(error) or type(error).__name__
        finally:
            tried.set()
            if writer is not None:
                writer.close()

    def report(self) -> dict[str, Any]:
        """What became of it so far."""
        return dict(vars(self))


async def main(address: str, port: int, flows: int, interval_s: float) -> None:
    """Run the flows until SIGTERM, then print their reports. "ready" is printed once each has been tried."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    made = [(Flow(), asyncio.Event()) for _ in range(flows)]
    tasks = [asyncio.create_task(flow.run(address, port, interval_s, tried)) for flow, tried in made]
    for _, tried in made:
        await tried.wait()
    print("ready", flush=True)
    await stop.wait()
    for task in tasks:
        task.cancel()
    for flow, _ in made:
        print(json.dumps(flow.report()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
