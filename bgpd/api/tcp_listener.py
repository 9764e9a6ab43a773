"""The TCP listener of [api], for the web page, metrics and views.

bgpd forwards whether anybody can look on or not: a token, a certificate or an address that is not there is told, and
tried again until it is. Nobody is served before all of them are.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable

from bgpd.api.access import Access, Certificate, token_of
from bgpd.api.connections import HEADER_TIMEOUT_S, STALL_TIMEOUT_S, Connections
from bgpd.config.check_api import BadApiFile
from bgpd.config.schema import ApiConfig
from bgpd.config.words import listen_address
from bgpd.runtime.events import log

RETRY_S = 5.0

Serve = Callable[[Access, Callable[[], None] | None], Connections]
"""Makes what takes connections: of whom that access lets in, after the function has been called for each."""


class TcpListener:
    """Listens as `config` says; `serve` makes what takes the connections."""

    def __init__(self, config: ApiConfig, serve: Serve, *, backlog: int) -> None:
        self._config = config
        self._serve = serve
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._certificate: Certificate | None = None
        self._problem = ""

    async def start(self) -> None:
        """Try to listen. `run` goes on with it."""
        if self._config.listen:
            await self._try()

    async def run(self) -> None:
        """Try again until there is a listener."""
        while self._problem:
            await asyncio.sleep(RETRY_S)
            if self._problem:
                await self._try()

    def stop(self) -> None:
        """Take no more connections, and do not try again."""
        self._problem = ""
        if self._server is not None:
            self._server.close()
            self._server = None

    def warnings(self) -> list[str]:
        """For `bgpd status`: why there is no listener, or why it shows an old certificate."""
        if self._problem:
            return [f"nobody can look on over TCP: {self._problem}; it is tried again every {RETRY_S:.0f} s"]
        return [self._certificate.problem] if self._certificate is not None and self._certificate.problem else []

    async def _try(self) -> None:
        config = self._config
        try:
            access = Access(config.allowed_hosts, token=token_of(config))
            certificate = Certificate(config.tls_certificate, config.tls_key) if config.tls_certificate else None
            listener = _bound(config.listen, self._backlog)
        except BadApiFile as bad:
            self._failed(f"api: {bad}")
            return
        except OSError as error:
            self._failed(f"api.listen {config.listen}: {_why(error)}")
            return
        accept = self._serve(access, certificate.look if certificate is not None else None)
        self._server = await asyncio.get_running_loop().create_server(
            accept,
            sock=listener,
            backlog=self._backlog,
            ssl=certificate.context if certificate is not None else None,
            ssl_handshake_timeout=HEADER_TIMEOUT_S - 1 if certificate is not None else None,
            ssl_shutdown_timeout=STALL_TIMEOUT_S if certificate is not None else None,
        )
        self._certificate = certificate
        if self._problem:
            log.info("api.listening", listen=config.listen)
            self._problem = ""

    def _failed(self, reason: str) -> None:
        if reason != self._problem:
            log.warning("api.not_listening", reason=reason, retry_s=RETRY_S)
            self._problem = reason


def _bound(listen: str, backlog: int) -> socket.socket:
    """A socket that takes connections to this address and port. Raises: OSError."""
    host, port = listen_address(listen)
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=backlog)
    listener.setblocking(False)
    return listener


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there"
        case errno.EADDRNOTAVAIL:
            return "the address is not on this host"
        case errno.EACCES | errno.EPERM:
            return "not permitted; a port below 1024 needs CAP_NET_BIND_SERVICE, and SocketBindAllow= in the unit"
    return error.strerror or str(error)
