"""Debian's Chromium in the namespace of a host, as the browser of somebody who sits there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from labs.namespace import Namespace

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 30_000.0
"""How long is waited for what a page should show."""


@contextlib.contextmanager
def browser(namespace: Namespace) -> Iterator[Browser]:
    """A browser without a window. Playwright's own is not needed, and is not there."""
    start = namespace.make_directory("chromium") / "chromium"
    start.write_text(f'#!/bin/sh\nexec ip netns exec {namespace.name} {CHROMIUM} "$@"\n')
    start.chmod(0o755)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(start), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield found
        finally:
            found.close()
