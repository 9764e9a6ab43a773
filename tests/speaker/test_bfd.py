"""What BFD means for sessions: which ones are wanted of the BFD process, and what its reports do to BGP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.bfd.control import END, WANT, Desired, Key, Report, gone_line, hello_line, read_desired
from bgpd.bfd.packet import Diagnostic, State
from bgpd.model.iana import CeaseSubcode, ErrorCode, MessageType
from bgpd.model.prefix import parse_address
from bgpd.speaker import bfd_channel
from bgpd.speaker.speaker import Speaker
from tests.interop.recording_speaker import Recorder
from tests.speaker.raw_peer import RawPeer
from tests.speaker.test_speaker import begun, config, left_by, running, successor, to_peer
from tests.waiting import until

KEY: Key = (parse_address("127.0.0.1"), parse_address("127.0.0.2"), "lo")


class FakeProcess:
    """The BFD process as the daemon sees it: keeps what is wanted, reports what the test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sets: list[dict[Key, Desired]] = []
        self.running: list[Report] = []
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As if it had ended."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        self.disconnect()

    def disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def say(self, *lines: str) -> None:
        assert self._writer is not None
        self._writer.write("".join(f"{line}\n" for line in lines).encode())

    def report(self, state: State, **fields: Any) -> None:
        self.say(report(state, **fields).line())

    @property
    def wanted(self) -> dict[Key, Desired]:
        return self.sets[-1] if self.sets else {}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        assert (await reader.readline()).decode().strip() == hello_line()
        self.say(hello_line(), *(one.line() for one in self.running), END)
        all_desired: dict[Key, Desired] = {}
        while line := (await reader.readline()).decode().rstrip("\n"):
            word, _, rest = line.partition(" ")
            if word == WANT:
                all_desired[read_desired(rest).key] = read_desired(rest)
            else:
                self.sets.append(all_desired)
                all_desired = {}


def report(state: State, *, key: Key = KEY, **fields: Any) -> Report:
    values = {
        "remote_state": State.DOWN,
        "discriminator": 7,
        "detection_time_us": 300_000,
        "ups": int(state is State.UP),
        **fields,
    }
    return Report(key, since=1000.0, state=state, **values)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[FakeProcess]:
    made = FakeProcess(tmp_path / "bfd.sock")
    await made.start()
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def with_bfd(
    process: FakeProcess, *, establish: bool = True, **bfd: Any
) -> AsyncIterator[tuple[Speaker, Recorder, RawPeer]]:
    """A speaker whose one neighbor has BFD."""
    async with contextlib.AsyncExitStack() as stack:
        peer = await stack.enter_async_context(RawPeer())
        wanted = config(neighbor=[to_peer(peer.port, bfd={"interval_ms": 100, **bfd})])
        speaker, recorder = await stack.enter_async_context(running(wanted, bfd_socket=str(process.path)))
        if establish:
            await peer.open()
            await until(lambda: recorder.established)
        await until(lambda: process.wanted)
        yield speaker, recorder, peer


def view(speaker: Speaker) -> Any:
    return speaker.bfd.views()[0]


async def test_wanted_is_a_session_from_the_address_of_the_bgp_session(process: FakeProcess) -> None:
    async with with_bfd(process, multiplier=5):
        (desired,) = process.wanted.values()
        assert desired.key == KEY
        assert (desired.interval_us, desired.multiplier) == (100_000, 5)


async def test_failure_takes_the_path_then_the_session_with_cease_bfd_down(process: FakeProcess) -> None:
    async with with_bfd(process) as (speaker, recorder, peer):
        process.report(State.UP)
        await until(lambda: view(speaker).state == "up")
        assert speaker.neighbor_views()[0].bfd == "up"
        process.report(State.DOWN, downs=1, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED)
        await until(lambda: recorder.closed)
        assert recorder.failed == ["peer"]
        assert recorder.closed == ["BFD down: no BFD packet of the neighbor came for 300 ms"]
        while (message := await peer.read())[0] is not MessageType.NOTIFICATION:
            pass
        assert message[1][:2] == bytes((ErrorCode.CEASE, CeaseSubcode.BFD_DOWN))


async def test_bfd_that_flaps_ends_each_session_once_and_costs_nothing_while_there_is_none(
    process: FakeProcess,
) -> None:
    async with with_bfd(process) as (speaker, recorder, peer):
        for session in (1, 2):
            for flaps in range(50 * session, 50 * session + 50):
                process.report(State.UP, ups=flaps + 1, downs=flaps)
                process.report(State.DOWN, ups=flaps + 1, downs=flaps + 1, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED)
            await until(lambda session=session: len(recorder.closed) == session)
            await until(lambda: view(speaker).state == "down")
            await peer.open()
            await until(lambda session=session: recorder.established == session + 1)
        assert len(recorder.closed) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"remote_state": State.ADMIN_DOWN, "diagnostic": Diagnostic.NEIGHBOR_SIGNALED_DOWN, "downs": 1},
        {"discriminator": 8, "downs": 0},  # the process began anew
    ],
)
async def test_what_is_no_failure(process: FakeProcess, fields: dict[str, Any]) -> None:
    async with with_bfd(process) as (speaker, recorder, _):
        process.report(State.UP)
        await until(lambda: view(speaker).state == "up")
        process.report(State.DOWN, **fields)
        await until(lambda: view(speaker).state == "down")
        assert not recorder.closed


async def test_bfd_that_was_never_up_takes_nothing_down(process: FakeProcess) -> None:
    async with with_bfd(process) as (speaker, recorder, _):
        process.report(State.DOWN)
        process.report(State.INIT)
        process.report(State.DOWN)
        await until(lambda: view(speaker).state == "down")
        assert not recorder.closed


async def test_process_that_ends_is_no_failure_and_is_told_again_what_is_wanted(process: FakeProcess) -> None:
    async with with_bfd(process) as (speaker, recorder, _):
        process.report(State.UP)
        await until(lambda: view(speaker).state == "up")
        await process.stop()
        await until(lambda: speaker.bfd.problem)
        assert "does bgpd-bfd run" in view(speaker).problem or "has it ended" in view(speaker).problem
        process.sets.clear()
        await process.start()
        await until(lambda: process.wanted)
        assert not speaker.bfd.problem
        assert not recorder.closed


async def test_process_that_says_nothing_any_more_is_told_and_is_no_failure(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, or starved: what it said last is no news of the neighbor."""
    async with with_bfd(process) as (speaker, recorder, _):
        process.report(State.UP)
        await until(lambda: view(speaker).state == "up")
        monkeypatch.setattr(bfd_channel, "SILENCE_S", 0.05)
        process.report(State.UP)
        await until(lambda: "has said nothing for" in speaker.bfd.problem)
        assert "has said nothing for" in view(speaker).problem
        assert not recorder.closed
        monkeypatch.undo()
        await until(lambda: not speaker.bfd.problem)


async def test_failure_while_the_connection_was_lost_is_one(process: FakeProcess) -> None:
    async with with_bfd(process) as (speaker, recorder, _):
        process.report(State.UP)
        await until(lambda: view(speaker).state == "up")
        process.running = [report(State.DOWN, downs=1, ups=1, diagnostic=Diagnostic.NEIGHBOR_SIGNALED_DOWN)]
        process.disconnect()
        await until(lambda: recorder.closed)
        assert recorder.closed == ["BFD down: the neighbor has signaled BFD Down"]


async def test_failure_during_a_hand_over_is_one(process: FakeProcess) -> None:
    async with with_bfd(process) as (former, _, peer):
        process.report(State.UP)
        await until(lambda: view(former).state == "up")
        process.running = [report(State.DOWN, downs=1, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED)]
        settings = config(neighbor=[to_peer(peer.port, bfd={"interval_ms": 100})])
        speaker, recorder = await successor(settings, left_by(former), bfd_socket=str(process.path))
        async with begun(speaker):
            await until(lambda: recorder.closed)
        assert recorder.failed == ["peer"]
        assert recorder.closed == ["BFD down: no BFD packet of the neighbor came for 300 ms"]


async def test_reload_changes_timers_and_removes_without_a_reset(process: FakeProcess) -> None:
    async with with_bfd(process) as (speaker, recorder, peer):
        process.report(State.UP)
        changed = config(neighbor=[to_peer(peer.port, bfd={"interval_ms": 200})])
        speaker.reconfigure(changed.speaker)
        await until(lambda: process.wanted[KEY].interval_us == 200_000)
        speaker.reconfigure(config(neighbor=[to_peer(peer.port)]).speaker)
        await until(lambda: process.wanted == {})
        process.report(State.ADMIN_DOWN, downs=1)
        process.say(gone_line(KEY))
        assert speaker.bfd.views() == []
        assert not recorder.closed


async def test_strict_waits_for_bfd_to_be_up(process: FakeProcess) -> None:
    async with with_bfd(process, establish=False, strict=True) as (speaker, recorder, peer):
        await until(lambda: "waits for BFD" in speaker.neighbor_views()[0].last_error)
        process.report(State.DOWN)
        await until(lambda: view(speaker).state == "down")
        assert peer.connections.empty()
        process.report(State.UP)
        await peer.open()
        await until(lambda: recorder.established)


async def test_strict_does_not_wait_for_a_neighbor_that_is_admin_down(process: FakeProcess) -> None:
    async with with_bfd(process, establish=False, strict=True) as (_, recorder, peer):
        process.report(State.DOWN, remote_state=State.ADMIN_DOWN)
        await peer.open()
        await until(lambda: recorder.established)


async def test_running_session_is_adopted_with_its_local_address(process: FakeProcess) -> None:
    key = (parse_address("127.0.0.2"), parse_address("127.0.0.9"), "lo")
    process.running = [report(State.UP, key=key)]
    neighbor = {"name": "late", "address": "127.0.0.9", "asn": 65201, "import": "all", "bfd": {}, "passive": True}
    wanted = config(neighbor=[neighbor])
    async with running(wanted, bfd_socket=str(process.path)) as (speaker, _):
        await until(lambda: process.wanted)
        assert list(process.wanted) == [key]
        await until(lambda: view(speaker).state == "up")


async def test_session_of_a_dynamic_neighbor_that_has_not_come_back_is_kept(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = (parse_address("127.0.0.1"), parse_address("127.0.0.9"), "lo")
    outside = (parse_address("127.0.0.1"), parse_address("127.0.1.9"), "lo")
    process.running = [report(State.UP, key=inside), report(State.UP, key=outside)]
    listen = {"prefix": "127.0.0.0/24", "asn": "external", "import": "all", "bfd": {"interval_ms": 50}}
    async with running(config(listen=[listen]), bfd_socket=str(process.path)) as (speaker, _):
        await until(lambda: process.sets)
        assert list(process.wanted) == [inside]
        assert process.wanted[inside].interval_us == 50_000
        monkeypatch.setattr("bgpd.speaker.bfd.ADOPT_S", -1.0)
        speaker.bfd.follow()
        await until(lambda: process.wanted == {})


async def test_routed_neighbor_says_why_it_has_no_bfd(process: FakeProcess) -> None:
    neighbor = {"name": "far", "address": "192.0.2.1", "asn": 65201, "import": "all", "bfd": {}}
    async with running(config(neighbor=[neighbor]), bfd_socket=str(process.path)) as (speaker, _):
        await until(lambda: process.sets)
        assert process.wanted == {}
        assert "not directly connected" in view(speaker).problem


async def test_process_of_another_version_is_not_spoken_with(process: FakeProcess, tmp_path: Path) -> None:
    path = tmp_path / "old.sock"
    server = await asyncio.start_unix_server(lambda _, writer: writer.write(b"bgpd-bfd 99\n"), path)
    neighbor = to_peer(1, bfd={})
    async with server, running(config(neighbor=[neighbor]), bfd_socket=str(path)) as (speaker, _):
        await until(lambda: speaker.bfd.problem)
        assert "was bgpd-bfd restarted after the upgrade?" in speaker.bfd.problem


async def test_nothing_is_connected_with_where_nobody_has_bfd(process: FakeProcess) -> None:
    async with running(config(neighbor=[to_peer(1)]), bfd_socket=str(process.path)) as (speaker, _):
        await asyncio.sleep(0.05)
        assert process.sets == []
        assert speaker.bfd.problem == ""
        assert msgspec.to_builtins(speaker.neighbor_views()[0])["bfd"] == ""


@pytest.mark.parametrize("independent", [0, 1])
async def test_bfd_of_a_neighbor_that_restarts_tells_of_its_forwarding_only_with_the_c_bit(
    process: FakeProcess, independent: int
) -> None:
    """RFC 5882 section 4.3: else BFD is down because it is restarting, too."""
    async with with_bfd(process) as (speaker, recorder, peer):
        process.report(State.UP, independent=independent)
        await until(lambda: view(speaker).state == "up")
        assert peer.writer is not None
        peer.writer.close()
        await until(lambda: recorder.closed)
        process.report(State.DOWN, downs=1, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED, independent=0)
        await until(lambda: view(speaker).state == "down")
        found = [reason for reason in recorder.not_forwarding if reason.startswith("BFD down")]
        assert len(found) == independent
