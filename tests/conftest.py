"""What all tests share: those that need network namespaces are skipped, with the reason, where none can be made."""

from __future__ import annotations

import functools
import os
import shutil

import pytest

from labs.namespace import Namespace
from labs.process import LabError


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


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") is not None and why_no_namespaces():
        pytest.skip(why_no_namespaces())
