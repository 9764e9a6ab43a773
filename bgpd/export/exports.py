"""All who are told what sessions say, as the configuration has them: BMP stations, MRT files. They follow a reload."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

import msgspec

from bgpd import __version__
from bgpd.config.schema import BmpConfig, Config, MrtConfig
from bgpd.export.bmp_station import BmpStation
from bgpd.export.mrt_files import MrtFiles
from bgpd.export.sessions import TappedSessions
from bgpd.rib.rib import Rib
from bgpd.runtime.background import start_in_background

_STOP_TIMEOUT_S = 1.0


class _Running(msgspec.Struct, frozen=True, eq=False):
    of: BmpStation | MrtFiles
    task: asyncio.Task[None]


class Exports:
    """`sessions` is what the speaker tells. `hostname` is the name that stations are told, `config()` the configuration
    of now."""

    def __init__(self, sessions: TappedSessions, *, rib: Rib, hostname: str, config: Callable[[], Config]) -> None:
        self._sessions = sessions
        self._rib = rib
        self._hostname = hostname
        self._config = config
        self._running: dict[BmpConfig | MrtConfig, _Running] = {}

    def reconfigure(self, *, tables_are_known: bool = True) -> None:
        """Begin with what is new, and end what is no longer wanted. Stations are connected to in the background, and
        only once tables are known, which they are sent first."""
        config = self._config().exports
        wanted: list[BmpConfig | MrtConfig] = list(config.bmp) if tables_are_known else []
        if config.mrt.directory:
            wanted.append(config.mrt)
        for gone in self._running.keys() - set(wanted):
            self._running.pop(gone).task.cancel()
        for station in self.stations:
            station.reconfigured()
        for one in wanted:
            if one not in self._running:
                made = self._station(one) if isinstance(one, BmpConfig) else self._files(one)
                self._running[one] = _Running(made, start_in_background(made.run(), f"export {type(made).__name__}"))

    async def settle(self, patience_s: float) -> None:
        """Nothing is read of neighbors, and the process is about to leave: wait until what they said is in files, but
        not for ever."""
        files = [one.of.flush() for one in self._running.values() if isinstance(one.of, MrtFiles)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await asyncio.gather(*files)

    async def stop(self) -> None:
        """Say good-bye to stations, and write what is left."""
        tasks = [one.task for one in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait(tasks, timeout=_STOP_TIMEOUT_S)

    @property
    def stations(self) -> Sequence[BmpStation]:
        """Those that are configured."""
        return [one.of for one in self._running.values() if isinstance(one.of, BmpStation)]

    @property
    def lost(self) -> int:
        """Messages that are in no MRT file, since they could not be written."""
        return sum(one.of.lost for one in self._running.values() if isinstance(one.of, MrtFiles))

    def warnings(self) -> list[str]:
        """Stations that are not connected, and files that cannot be written."""
        found = []
        for one in self._running.values():
            if isinstance(one.of, MrtFiles) and one.of.problem:
                found.append(f"MRT files: {one.of.problem}")
            elif isinstance(one.of, BmpStation) and one.of.last_error:
                station = one.of.config
                found.append(f"BMP station {station.address} port {station.port} is not connected: {one.of.last_error}")
        return found

    def _station(self, config: BmpConfig) -> BmpStation:
        return BmpStation(
            config,
            name=self._hostname,
            description=f"bgpd {__version__}",
            sessions=self._sessions,
            rib=self._rib,
            local=self._local,
            vrfs=self._vrfs,
        )

    def _files(self, config: MrtConfig) -> MrtFiles:
        return MrtFiles(config, sessions=self._sessions, local_asn=lambda: self._local()[0])

    def _local(self) -> tuple[int, bytes]:
        router = self._config().router
        return int(router.asn), socket.inet_aton(router.router_id)

    def _vrfs(self) -> set[str]:
        return {"", *(one.name for one in self._config().vrf)}
