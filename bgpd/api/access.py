"""Which requests over TCP are answered: those that are meant for this host, and come with the token if there is one.

Who asks over the unix socket is the file system's business. Over TCP anybody may connect, and a browser lets any web
page send requests in its user's name: it tells the truth about them in Host, Origin and Sec-Fetch-Site.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from bgpd.api.backend import Rejected
from bgpd.config.check_api import BadApiFile, load_certificate, read_token, server_context
from bgpd.config.schema import ApiConfig
from bgpd.runtime.events import log

CHALLENGE = 'Basic realm="bgpd", charset="UTF-8"'
"""A browser asks its user for a name, which may be any, and a password: the token."""


_DATA = ("/v1/", "/metrics", "/birdwatcher/", "/openapi.json")
"""What is no part of the page."""
_OWN_PAGE = "open the page of this host itself, by its own name"


class Access:
    """What each request over TCP is held against. `token` b"": everybody who can connect may look."""

    def __init__(self, allowed_hosts: Iterable[str] = (), *, token: bytes = b"") -> None:
        self._hosts = HostCheck(allowed_hosts)
        self._digest = hashlib.sha256(token).digest() if token else b""

    def check(self, headers: Mapping[str, str], path: str) -> None:
        """Raises: Rejected: with 403, it is meant for another host, or sent by another site's page; 401, no token."""
        if "Host" in headers:
            self._hosts.check(headers["Host"], headers.get("Origin"))
        if path.startswith(_DATA) and headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise Rejected(403, "a page of another site may not read this host's API", _OWN_PAGE)
        if self._digest and not self._is_right(headers.get("Authorization", "")):
            raise Rejected(401, "the token is missing or wrong", "the token is in api.token_file")

    def _is_right(self, authorization: str) -> bool:
        """Whether the token is there, as "Bearer TOKEN" or the password of "Basic"; any other takes the same time."""
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode(errors="replace")
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).partition(b":")[2]
            except binascii.Error:
                token = b""
        elif scheme.lower() != "bearer":
            token = b""
        return hmac.compare_digest(hashlib.sha256(token).digest(), self._digest)


class HostCheck:
    """Which hosts a TCP request may be meant for: no web page of somebody else's may read the API through a browser.

    A page can make its own name lead to this host (DNS rebinding), but a browser then still sends that name. Addresses
    cannot be taken over so; names must be this host's own, or in `api.allowed_hosts`.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in allowed)}

    def check(self, host: str, origin: str | None) -> None:
        """`host`, `origin`: the header fields. Raises: Rejected: with 403, the request is meant for another host."""
        if not self._is_own(host):
            hint = f'use an address, or name it in api.allowed_hosts: "{host.rpartition(":")[0] or host}"'
            raise Rejected(403, f'"{host}" is not a name of this host', hint)
        if origin is not None and _host_of(origin) != host.lower():
            raise Rejected(403, f"a page of {origin} may not read this host's API", _OWN_PAGE)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_of(origin: str) -> str:
    """Host and port of an origin; "" if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class Certificate:
    """The TLS of a listener. A certificate that was renewed in place is shown to the connections after that; `problem`
    says why the last one is not.

    Raises: BadApiFile: the files cannot be used.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self.context: ssl.SSLContext = server_context(certificate, key)
        self.problem = ""
        self._files = certificate, key
        self._seen = self._state()

    def look(self) -> None:
        """Take a new one, if there is one. A bad one is told once, and the former stays."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            server_context(*self._files)  # OpenSSL gives up the former key while it looks at a new certificate
            load_certificate(self.context, *self._files)
        except BadApiFile as bad:
            self.problem = f"api: the former certificate is shown, since the renewed one cannot be used: {bad}"
            log.warning("api.certificate_not_renewed", reason=str(bad))
        else:
            self.problem = ""
            log.info("api.certificate_renewed", file=self._files[0])

    def _state(self) -> list[tuple[int, int] | None]:
        states: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                found = os.stat(file)
                states.append((found.st_mtime_ns, found.st_ino))
            except OSError:
                states.append(None)
        return states


def token_of(config: ApiConfig) -> bytes:
    """The token of a configuration, b"" if it has none. Raises: BadApiFile."""
    return read_token(config.token_file) if config.token_file else b""
