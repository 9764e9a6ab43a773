"""Times and spans as people write them on the command line."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime, timedelta, tzinfo

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
    another offset ("02:51Z" is UTC): seconds since the epoch. Raises: ArgumentTypeError.
    """
    if re.fullmatch(r"[0-9]{1,9}[smhd]", text):
        return time.time() - span_s(text)
    if found := re.fullmatch(r"([0-9]{1,2}):([0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(Z?)", text):
        return _last(f"{found[1]:0>2}:{found[2]}", UTC if found[3] else None, given=text)
    return _of_iso(text, given=text).timestamp()


def _last(clock: str, zone: tzinfo | None, *, given: str) -> float:
    """When the clock last showed this. When it is set back an hour it shows some times twice, and it leaves out some
    when it is set forward (PEP 495)."""
    now = time.time()
    today = datetime.fromtimestamp(now, zone).date()
    days = (today, today - timedelta(days=1), today - timedelta(days=2))
    shown = [_of_iso(f"{day}T{clock}", given=given).replace(tzinfo=zone) for day in days]
    times = ((one, one.replace(fold=fold).timestamp()) for one in shown for fold in (0, 1))
    return max(at for one, at in times if at <= now and datetime.fromtimestamp(at, zone).replace(fold=0) == one)


def _of_iso(text: str, *, given: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        found.timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f'"{given}" is no time such as 10m (ago), 02:51, 02:51:07, 02:51Z or 2026-11-27T02:51'
        ) from None
    return found
