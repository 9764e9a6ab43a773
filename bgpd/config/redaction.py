"""Secrets taken out of what is shown to others: a support bundle goes to people who have no business with them.

Passwords and keys are in files of their own, of which the configuration has the names only. What may be a secret all
the same: a value whose key says so, user and password in an URL, and the words after such a key in a text.
"""

from __future__ import annotations

import re
from typing import Any

REDACTED = "(redacted)"
_SECRET_KEY = re.compile(r"(password|passwd|secret|token|authorization|credential|private|(^|_)key)s?$", re.IGNORECASE)
_IN_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s\"']+@", re.IGNORECASE)
_IN_TEXT = re.compile(
    r"(?P<key>\b[\w-]*(?:password|passwd|secret|token|authorization|credential)s?\b(?:\\*[\"'])?\s*[:=]\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\+\".*?\\\"|(?:Bearer|Basic)\s+[^\s\"']+|[^\s,;}\]]+)",
    re.IGNORECASE,
)


def redacted(value: Any, key: str = "") -> Any:
    """A JSON value without secrets. `key` is its own key."""
    if isinstance(value, dict):
        return {name: redacted(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [redacted(one, key) for one in value]
    if isinstance(value, str) and value:
        return REDACTED if _SECRET_KEY.search(key) else redacted_text(value)
    return value


def redacted_text(text: str) -> str:
    """A text without secrets, such as log lines."""
    return _IN_TEXT.sub(_in_place, _IN_URL.sub(rf"\g<scheme>{REDACTED}@", text))


def _in_place(found: re.Match[str]) -> str:
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['key']}{quote}{REDACTED}{quote}"
