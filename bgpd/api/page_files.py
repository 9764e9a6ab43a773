"""The files of the web page, as they are in the package `bgpd/page`: read once, and served as they are.

The page has no other origin than this host: it may load nothing from elsewhere, run no script that is in its HTML, and
no other page may frame it (Content Security Policy). It gives no orders: it only reads what the API shows.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

FOLDER = "page"
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
        for entry in resources.files("bgpd").joinpath(FOLDER).iterdir():
            kind = KINDS.get(f".{entry.name.rpartition('.')[2]}")
            if kind is not None:
                body = entry.read_bytes()
                self._files[entry.name] = body, kind, hashlib.sha256(body).hexdigest()[:32]

    def add_to(self, app: web.Application) -> None:
        """Serve `/` and `/page/NAME`."""
        app.router.add_get("/", self._index)
        app.router.add_get("/page/{name}", self._file)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._answer(request, "index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound()
        return self._answer(request, name)

    def _answer(self, request: web.Request, name: str) -> web.StreamResponse:
        body, kind, digest = self._files[name]
        is_known = digest in {tag.value for tag in request.if_none_match or ()}
        response = web.Response(status=304) if is_known else web.Response(body=body, content_type=kind, charset="utf-8")
        response.headers.update(HEADERS)
        response.etag = digest
        return response
