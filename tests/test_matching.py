"""Neighbors of patterns: when interfaces are looked at again."""

from __future__ import annotations

import asyncio

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.matching import Matching

ROUTER = RouterConfig(asn=65203, router_id="10.255.1.1")
LEAF = NeighborConfig(name="leaf", interface="eth*", asn="external", import_="none")


async def test_an_interface_that_came_while_its_pattern_was_taken_over_is_found() -> None:
    matching = Matching()
    looks: asyncio.Queue[None] = asyncio.Queue()

    async def follow() -> None:
        looks.put_nowait(None)

    running = asyncio.get_running_loop().create_task(matching.run(follow))
    await looks.get()
    config, interfaces = Config(router=ROUTER, neighbor=(LEAF,)), {"eth0": ""}
    matching.interfaces = lambda: interfaces
    matched = matching.made_out(config)
    interfaces["eth1"] = ""
    matching.link_changed("eth1")
    matching.taken(config, matched)
    await asyncio.wait_for(looks.get(), 10)
    matching.taken(config, matching.made_out(config))
    assert not matching._changed.is_set(), "the same configuration is no reason to look again"
    running.cancel()
