"""The pods of service tests: one server for all of them, told to listen, to stop, or to answer otherwise, by files."""

from __future__ import annotations

import http.server
import socketserver
import ssl
import sys
import threading
import time
from pathlib import Path

ADDRESSES = ("10.64.1.1", "10.64.1.2")
HTTP, HTTPS = 8000, 8443


def serve(directory: Path) -> None:
    """HTTP, and HTTPS if there is a certificate, on each address that has a file of its name in `directory`; the file's
    text is the status.
    """
    ports = (HTTP, HTTPS) if (directory / "certificate").exists() else (HTTP,)
    running: dict[tuple[str, int], socketserver.BaseServer] = {}
    while True:
        for address in ADDRESSES:
            wanted = (directory / address).exists()
            for port in ports:
                present = running.get((address, port))
                if wanted and present is None:
                    running[address, port] = _server(directory / address, address, port)
                elif not wanted and present is not None:
                    present.shutdown()
                    running.pop((address, port)).server_close()
        time.sleep(0.02)


def _server(file: Path, address: str, port: int) -> socketserver.BaseServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(file.read_text() or "200") if self.path == "/health" else 404)
            self.end_headers()

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    if port == HTTPS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file.parent / "certificate", file.parent / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
