"""A reload of each key of a session resets it just where the table of effects says so, which `bgpd plan` reads too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bgpd.config.effects import Effect, effect_of
from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.message.exabgp_codec import KEEPALIVE
from tests.interop.recording_speaker import Recorder
from tests.speaker.messages import open_bytes
from tests.speaker.raw_peer import RawPeer
from tests.speaker.test_speaker import config, free_port, running, to_peer
from tests.waiting import until

LISTEN = {"prefix": "127.0.0.0/8", "asn": "external", "import": "all"}
SHARED: dict[str, Any] = {
    "asn": "external",
    "import": "default-only",
    "export": "none",
    "families": ["ipv4-unicast"],
    "vrf": "blue",
    "local_asn": 65210,
    "hold_time_s": 30,
    "connect_retry_s": 7,
    "allow_own_as": 1,
    "accept_martians": True,
    "accept_as_sets": True,
    "max_prefixes": 7,
    "max_prefixes_warn_percent": 50,
    "max_prefixes_action": "discard",
    "max_prefixes_restart_after_s": 7,
    "max_attribute_bytes": 7_000_000,
    "password_file": "key",
    "tcp_ao": [{"key_file": "key", "send_id": 1, "receive_id": 1}],
    "ttl_security": True,
    "extended_messages": False,
    "bfd": {},
    "graceful_restart": {"mode": "off"},
    "role": "customer",
    "role_strict": True,
}
NEIGHBOR = SHARED | {
    "name": "other",
    "address": "127.0.0.9",
    "interface": "lo",
    "port": 1,
    "passive": True,
    "source_address": "127.0.0.8",
    "expect_hostname": "leaf7",
}
RANGE = SHARED | {
    "asn": 65201,
    "prefix": "127.0.0.0/16",
    "max_neighbors": 7,
    "max_neighbors_per_interface": 7,
    "min_hold_time_s": 4,
}
ROUTER = {
    "asn": 65204,
    "router_id": "10.255.1.9",
    "hostname": "other",
    "asn_range": "64512-65534",
    "loopbacks": ("10.255.0.0/16",),
}


def wants_reset(section: str, key: str) -> bool:
    """Another name or prefix is another neighbor or range: the former one goes. TCP-AO is given here where none was."""
    return effect_of((section, key)) is Effect.RESET or key == "tcp_ao"


async def is_reset(recorder: Recorder) -> bool:
    """Whether the session was ended by the reload, which ends it at once if at all."""
    await asyncio.sleep(0)
    return bool(recorder.closed)


def test_all_keys_are_tried() -> None:
    assert NEIGHBOR.keys() == set(NeighborConfig.__struct_encode_fields__)
    assert RANGE.keys() == set(ListenConfig.__struct_encode_fields__)
    assert ROUTER.keys() == set(RouterConfig.__struct_encode_fields__)


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("secret\n")


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("key", NEIGHBOR)
async def test_key_of_a_neighbor(peer: RawPeer, key: str) -> None:
    former = to_peer(peer.port)
    async with running(config(neighbor=[former]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        speaker.reconfigure(config(neighbor=[{**former, key: NEIGHBOR[key]}]).speaker)
        assert await is_reset(recorder) == wants_reset("neighbor", key)


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("key", RANGE)
async def test_key_of_a_range(key: str) -> None:
    port = free_port()
    async with running(config(listen=[LISTEN]), listen_port=port) as (speaker, recorder):
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
        writer.write(open_bytes() + KEEPALIVE)
        await until(lambda: recorder.sources)
        speaker.reconfigure(config(listen=[{**LISTEN, key: RANGE[key]}]).speaker)
        assert await is_reset(recorder) == wants_reset("listen", key)
        writer.close()


@pytest.mark.parametrize("key", ROUTER)
async def test_key_of_the_router(peer: RawPeer, key: str) -> None:
    former = config(neighbor=[to_peer(peer.port)])
    async with running(former, listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        router = {"asn": 65203, "router_id": "10.255.1.1", key: ROUTER[key]}
        speaker.reconfigure(config(neighbor=[to_peer(peer.port)], router=router).speaker)
        assert await is_reset(recorder) == wants_reset("router", key)
