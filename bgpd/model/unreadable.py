"""What msgspec raises for bytes that are not of the form that is asked for, whichever part of them is not."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Not of the form; a text in it is no UTF-8; nested too deeply."""
