"""The files that the tests of importers read are ones that FRR, BIRD and GoBGP themselves accept."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.migrate.converting import FILES

PARSERS = [
    (["vtysh", "-C", "-f", "frr.conf"], "frr.conf"),
    (["bird", "-p", "-c", "bird.conf"], "bird.conf"),
    (["gobgpd", "-d", "-f", "gobgpd.toml"], "gobgpd.toml"),
    (["gobgpd", "-d", "-f", "gobgpd.yaml"], "gobgpd.yaml"),
]


@pytest.mark.parametrize(("command", "file"), PARSERS, ids=[file for _, file in PARSERS])
def test_file_is_legal(command: list[str], file: str) -> None:
    if shutil.which(command[0]) is None and shutil.which(f"/usr/sbin/{command[0]}") is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=FILES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
