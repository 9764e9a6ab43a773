"""What answers at a service address, in a namespace: HTTP that says who it is, and DNS; healthy or not by a file."""

from __future__ import annotations

import http.server
import socket
import socketserver
import struct
import sys
import threading
from pathlib import Path

HTTP, DNS = 8000, 5353
ADDRESSES = ("10.64.100.1", "2001:db8:100::1")


def serve(directory: Path, name: str) -> None:
    """`directory/status` has the status of /health, and DNS answers while that is 200; each request of /health adds a
    line to `directory/asked`.
    """

    def status() -> int:
        return int((directory / "status").read_text())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                with (directory / "asked").open("a") as file:
                    file.write(f"{self.client_address[0]}\n")
            self.send_response(status() if self.path == "/health" else 200)
            self.end_headers()
            self.wfile.write(name.encode())

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, server = self.request
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes((10, 64, 100, 1))
            good = status() == 200
            head = query[:2] + struct.pack("!HHHHH", 0x8180 if good else 0x8182, 1, good, 0, 0)
            server.sendto(head + query[12:] + record * good, self.client_address)

    class Dns6(socketserver.ThreadingUDPServer):
        address_family = socket.AF_INET6

    dns4 = socketserver.ThreadingUDPServer((ADDRESSES[0], DNS), Answer)
    for server in (Server(("::", HTTP), Handler), dns4, Dns6((ADDRESSES[1], DNS), Answer)):
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
