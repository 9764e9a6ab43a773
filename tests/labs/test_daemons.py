"""A daemon that does not come up is told, and is in nobody's way."""

from __future__ import annotations

import pytest

from labs.daemons import Daemon
from labs.namespace import Namespace
from labs.process import LabError

pytestmark = pytest.mark.netns


def test_daemon_that_does_not_answer_in_time_is_ended() -> None:
    with Namespace("silent", prefix="t") as namespace:
        daemon = Daemon(namespace)
        process = daemon._start("sleep", "1000")
        with pytest.raises(LabError, match="daemon to answer on"):
            daemon._wait_for_socket(daemon.directory / "never", process, 0.05)
        assert process.exit_code is not None
