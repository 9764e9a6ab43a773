"""The fabric that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon.fabric import Fabric


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    with Fabric() as fabric:
        yield fabric
