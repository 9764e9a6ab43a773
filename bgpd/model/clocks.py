"""Times as files and other processes tell them: what is out of these ranges is damaged, and cannot be counted with."""

from __future__ import annotations

from typing import Annotated

import msgspec

WallClock = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]
"""Seconds since 1970, until the year 9999: what can be shown."""
Monotonic = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
"""Seconds of a clock that only goes forward, from wherever it began."""
