"""Times and spans as people write them on the command line."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def span_s(text: str) -> int:
    """ "90", "30m", "2h", "1d" in seconds. Raises: ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    seconds = int(found[1]) * _SPANS[found[2] or "s"] if found else 0
    if not 1 <= seconds <= 315_360_000:
        raise argparse.ArgumentTypeError(f'"{text}" is no time such as 90s, 30m, 2h or 1d')
    return seconds


def moment(text: str) -> float:
    """ "10m" (ago), "02:51", "02:51:07" (the last time that it was), "2026-11-27T02:51", in local time unless it says
    another offset: seconds since the epoch. Raises: ArgumentTypeError.
    """
    now = datetime.now()
    if re.fullmatch(r"[0-9]{1,9}[smhd]", text):
        return time.time() - span_s(text)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        hours, colon, rest = text.partition(":")
        return _of_iso(f"{now:%Y-%m-%d}T{hours:0>2}{colon}{rest}", given=text, latest=now)
    return _of_iso(text, given=text)


def _of_iso(text: str, *, given: str, latest: datetime | None = None) -> float:
    try:
        found = datetime.fromisoformat(text)
        if latest is not None and found > latest:
            found -= timedelta(days=1)
        return found.timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f'"{given}" is no time such as 10m (ago), 02:51, 02:51:07 or 2026-11-27T02:51'
        ) from None
