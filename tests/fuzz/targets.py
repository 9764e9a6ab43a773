"""All fuzz targets by name."""

from __future__ import annotations

from tests.fuzz import conversations, feed, files, http, imports, left, messages, programs, requests, routes
from tests.fuzz.target import Target
from tests.logs import log_nothing

TARGETS: dict[str, Target] = {
    **messages.TARGETS,
    **conversations.TARGETS,
    **routes.TARGETS,
    **programs.TARGETS,
    **requests.TARGETS,
    **http.TARGETS,
    **feed.TARGETS,
    **files.TARGETS,
    **left.TARGETS,
    **imports.TARGETS,
}


def quiet() -> None:
    """Nothing is logged: inputs that are refused by the thousand are no news."""
    log_nothing()
