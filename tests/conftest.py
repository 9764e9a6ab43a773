"""What all tests share: those that need namespaces, or devices that a kernel may lack, are skipped without them.

Those marked `vm` run where the kernel has the devices. `make test-vm` brings such a kernel, and skips nothing there.
Property tests try the same examples in every run, so that one commit has one outcome; `make fuzz` tries new ones.
None fails because the machine is busy.
"""

from __future__ import annotations

import functools
import os
import shutil
from typing import Any

import hypothesis
import pytest

from labs.namespace import Namespace
from labs.process import LabError
from tests.logs import log_plainly

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@functools.cache
def why_no_namespaces() -> str:
    """Why network namespaces cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2"
    try:
        with Namespace("probe", prefix="probe"):
            return ""
    except LabError as error:
        return f"network namespaces cannot be made here: {error}"


@functools.cache
def why_no_devices() -> str:
    """Why tests marked `vm` cannot run here; "" when they can."""
    if why_no_namespaces():
        return why_no_namespaces()
    try:
        with Namespace("probe", prefix="probe") as namespace:
            namespace.batch(
                "link add blue type vrf table 1001",
                "link add base type dummy",
                "link add link base name base.101 type vlan id 101",
            )
            return ""
    except LabError:
        return "this kernel lacks VRF, VLAN or dummy devices: make test-vm"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist loadfile`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.schedule import LongFilesFirst

    return LongFilesFirst(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    log_plainly()
    cannot = pytest.fail if "BGPD_GUEST" in os.environ else pytest.skip
    if item.get_closest_marker("netns") is not None and why_no_namespaces():
        cannot(why_no_namespaces())
    if item.get_closest_marker("vm") is not None and why_no_devices():
        cannot(why_no_devices())
