"""The Debian package, built once for all tests of a run that need it; or BGPD_DEB, a file of `make deb`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.packages.built import make_deb


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    if there := os.environ.get("BGPD_DEB"):
        return Path(shutil.copy(there, folder))
    return make_deb(folder)
