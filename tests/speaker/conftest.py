"""What the tests of speakers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.speaker.raw_peer import RawPeer


@pytest.fixture
async def peer() -> AsyncIterator[RawPeer]:
    async with RawPeer() as peer:
        yield peer
