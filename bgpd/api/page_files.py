"""The files of the web page, as they are in the package `bgpd/page`: read once, and served as they are.

The page has no other origin than this host: it may load nothing from elsewhere, run no script that is in its HTML, and
no other page may frame it (Content Security Policy). It gives no orders: it only reads what the API shows.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bgpd.api.app import App
from bgpd.api.backend import Rejected
from bgpd.api.http import Request, Response

FOLDER = Path(__file__).parents[1] / "page"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class PageFiles:
    """All files of the page, in memory: some tens of kilobytes."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for entry in FOLDER.iterdir():
            kind = KINDS.get(f".{entry.name.rpartition('.')[2]}")
            if kind is not None:
                body = entry.read_bytes()
                self._files[entry.name] = body, kind, hashlib.sha256(body).hexdigest()[:32]

    def add_to(self, app: App) -> None:
        """Serve `/` and `/page/NAME`."""
        app.get("/", self._index)
        app.get("/page/{name}", self._file)

    async def _index(self, request: Request) -> Response:
        return self._answer(request, "index.html")

    async def _file(self, request: Request) -> Response:
        name = request.match_info["name"]
        if name not in self._files:
            raise Rejected(404, f"{request.method} {request.path}: Not Found", "GET /openapi.json lists all requests")
        return self._answer(request, name)

    def _answer(self, request: Request, name: str) -> Response:
        body, kind, digest = self._files[name]
        headers = {**HEADERS, "ETag": f'"{digest}"'}
        if f'"{digest}"' in re.findall(r'"[^"]*"', request.headers.get("If-None-Match", "")):
            return Response(status=304, headers=headers)
        return Response(body, content_type=f"{kind}; charset=utf-8", headers=headers)
