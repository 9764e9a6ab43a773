"""Texts that a neighbor has chosen, on the web page: they are shown as texts, and steer nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from labs.browser import PATIENCE_MS, browser
from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.wire_peer import CEASE, NOTIFICATION, WirePeer, message

pytestmark = pytest.mark.netns

URL = "http://127.0.0.1:9179/"
MARKUP = "<img src=x onerror=\"document.title='taken'\">"
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}dne eht\N{LINE SEPARATOR}\x1b[31m"
ADMINISTRATIVE_SHUTDOWN = 2

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def host(fabric: Fabric, peer: WirePeer) -> Iterator[Host]:
    """Its neighbor has ended the session with a text (RFC 9003)."""
    with started(fabric, leaf(1, connect_retry_s=600), table("[api]", listen="127.0.0.1:9179")) as host:
        name = MARKUP.encode()
        connection = peer.establish(more=bytes((73, len(name) + 2, len(name))) + name + b"\0")
        host.wait_established("leaf1")
        text = f"{MARKUP} {TURNED}".encode()
        connection.sendall(message(NOTIFICATION, struct.pack("!BBB", CEASE, ADMINISTRATIVE_SHUTDOWN, len(text)) + text))
        host.wait(lambda: host.log("session.closed"), "the end of the session")
        yield host


@pytest.fixture
def chromium(host: Host) -> Iterator[Browser]:
    with browser(host.namespace) as found:
        yield found


def test_what_a_neighbor_says_is_a_text_and_nothing_else(host: Host, chromium: Browser) -> None:
    page = chromium.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith((URL, "about:")) or wrong.append(request.url))
    for place in ("", "#view=journal"):
        page.goto(f"{URL}{place}")
        expect(page.locator("main")).to_contain_text(MARKUP)
        expect(page.locator("main img")).to_have_count(0)
        shown = page.locator("body").inner_text()
        assert "\N{REPLACEMENT CHARACTER}dne eht" in shown
        assert not any(one in shown for one in ("\N{RIGHT-TO-LEFT OVERRIDE}", "\N{LINE SEPARATOR}", "\x1b"))
        assert "taken" not in page.title()
    page.get_by_role("button", name="Copy for ticket").click()
    ticket = page.locator("#ticket-text").input_value()
    assert MARKUP in ticket
    assert "\N{REPLACEMENT CHARACTER}dne eht" in ticket
    assert wrong == []
