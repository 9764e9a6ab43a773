"""Pages over HTTP: bounded, one after the other, and nothing wrong in the query."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bgpd.api import pages
from bgpd.api.server import ApiServer
from bgpd.config.schema import ApiConfig
from tests.scripted_backend import ScriptedBackend


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    path = str(tmp_path / "api.sock")
    server = ApiServer(ApiConfig(socket=path), ScriptedBackend(routes=1_000))
    await server.start()
    async with aiohttp.ClientSession("http://bgpd", connector=aiohttp.UnixConnector(path=path, limit=0)) as session:
        yield session
    await server.stop()


async def get(http: aiohttp.ClientSession, target: str, status: int = 200) -> Any:
    async with http.get(target) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_pages_together_are_the_table(http: aiohttp.ClientSession) -> None:
    after, found, lengths = "", [], []
    while True:
        page = await get(http, f"/v1/pages/routes?limit=300&after={after}")
        assert page["total"] == 1_000
        found += [row["prefix"] for row in page["rows"]]
        lengths.append(len(page["rows"]))
        after = page["after"]
        if not after:
            break
    assert lengths == [300, 300, 66]
    assert len(set(found)) == len(found) == 666


async def test_page_ends_where_much_was_looked_at(http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_LOOKED_AT", 10)
    page = await get(http, "/v1/pages/routes?limit=500")
    assert (len(page["rows"]), page["after"]) == (18, "28")


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/v1/pages/none", 404, "there are no pages"),
        ("/v1/pages/routes?limit=0", 400, ">= 1"),
        ("/v1/pages/routes?limit=501", 400, "<= 500"),
        ("/v1/pages/routes?limit=x", 400, "int"),
        ("/v1/pages/routes?colour=red", 400, "unknown parameter"),
        ("/v1/pages/broken", 500, "failed to answer"),
    ],
)
async def test_errors_say_what_was_wrong(http: aiohttp.ClientSession, target: str, status: int, error: str) -> None:
    assert error in (await get(http, target, status))["error"]


async def test_many_at_once_wait_for_each_other(http: aiohttp.ClientSession) -> None:
    found = await asyncio.gather(*(get(http, "/v1/pages/routes?limit=50") for _ in range(50)))
    assert [len(page["rows"]) for page in found] == [50] * 50
