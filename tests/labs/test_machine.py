"""A machine with a real systemd leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.machine import Machine
from labs.namespace import Namespace
from labs.process import LabError

pytestmark = pytest.mark.netns


def test_no_process_of_a_machine_outlives_it() -> None:
    with Namespace("machine", prefix="S") as network:
        try:
            with Machine(network) as machine:
                machine.run("systemd-run", "sleep", "1000")
                init = machine._init
                assert Path(f"/proc/{init}").exists()
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        assert not Path(f"/proc/{init}").exists(), "its first process is left, as a zombie at least"
