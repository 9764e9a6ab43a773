"""The web page for many, and from elsewhere: routes and viewers hold nothing up, and strangers see nothing."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from labs.browser import PATIENCE_MS, browser
from tests.api.tls import make_certificate
from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.wire_peer import END_OF_RIB, UPDATE, WirePeer, attribute, keep_alive, message, update

pytestmark = pytest.mark.netns

PORT = 9179
ROUTES = 100_000
VIEWERS = 50
MOST_HOLD_S = "0.02"
MOST_MIB = 50
IN_UPDATE = 900


def bulk(count: int) -> bytes:
    """UPDATEs with so many /24 from 20.0.0.0 on."""
    attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    attributes += attribute(0x40, 3, socket.inet_aton("10.0.1.2"))
    head = struct.pack("!HH", 0, len(attributes)) + attributes
    nlri = [b"\x18" + struct.pack("!I", 20 << 24 | number << 8)[:3] for number in range(count)]
    parts = (b"".join(nlri[start : start + IN_UPDATE]) for start in range(0, count, IN_UPDATE))
    return b"".join(message(UPDATE, head + part) for part in parts)


class Viewers:
    """Connections to the live stream that read all that they are sent."""

    def __init__(self, host: Host, count: int) -> None:
        with host.namespace.entered():
            self._streams = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(count)]
        self._received = dict.fromkeys(self._streams, b"")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Viewers:
        for stream in self._streams:
            stream.sendall(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()
        for stream in self._streams:
            stream.close()

    def have_all(self, text: bytes) -> bool:
        """Whether each was sent this."""
        return all(text in received for received in self._received.values())

    def _read(self) -> None:
        while not self._end.is_set():
            for stream in select.select(self._streams, [], [], 0.1)[0]:
                self._received[stream] = (self._received[stream] + stream.recv(65536))[-100_000:]


def long_holds(host: Host) -> int:
    """How often the loop was held for longer than 20 ms of its thread's processor time."""
    text = host.request("/metrics")[1].decode()
    found = dict(re.findall(r'^bgpd_loop_hold_cpu_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.MULTILINE))
    return int(found["+Inf"]) - int(found[MOST_HOLD_S])


def resident_mib(host: Host) -> int:
    status = Path(f"/proc/{host.get('upgrade')['pid']}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


@pytest.fixture
def host(fabric: Fabric) -> Iterator[tuple[Host, socket.socket]]:
    api = table("[api]", listen=f"127.0.0.1:{PORT}")
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, max_prefixes=0), api) as host:
        connection = peer.establish(is_quiet=True, hold_time_s=180)
        connection.settimeout(60)
        connection.sendall(bulk(ROUTES) + END_OF_RIB)
        threading.Thread(target=keep_alive, args=(connection,), daemon=True).start()  # none in the midst of an UPDATE
        host.wait(lambda: host.get("overview")["tables"][0]["installed"] >= ROUTES, "all routes", timeout_s=120)
        host.wait_ready()
        yield host, connection


def test_many_look_at_many_routes_while_some_change(host: tuple[Host, socket.socket]) -> None:
    bgpd, leaf1 = host
    held, memory = long_holds(bgpd), resident_mib(bgpd)
    with Viewers(bgpd, VIEWERS) as viewers, browser(bgpd.namespace) as chromium, contextlib.ExitStack() as stack:
        pages = [stack.enter_context(contextlib.closing(chromium.new_context())).new_page() for _ in range(2)]
        expect.set_options(timeout=PATIENCE_MS)
        for page in pages:
            page.goto(f"http://127.0.0.1:{PORT}/#view=routes")
            expect(page.get_by_text(f"100 of {ROUTES:,} routes")).to_be_visible()
        first, second = pages
        first.get_by_role("button", name="Next").click()
        expect(first.get_by_role("link", name="20.0.100.0/24")).to_be_visible()
        first.get_by_role("button", name="Back").click()
        expect(first.get_by_role("link", name="20.0.0.0/24")).to_be_visible()
        second.get_by_label("Search").fill("20.1.0.0/16")
        second.get_by_role("button", name="Search").click()
        expect(second.get_by_role("link", name="20.1.0.0/24")).to_be_visible()
        for number in range(20):
            leaf1.sendall(update((f"30.{number}.0.0/16",), asn=65201))
            assert len(bgpd.get("pages/routes", search=f"20.{number % 2}.0.0/16", limit=500)["rows"]) == 256
        bgpd.wait(lambda: bgpd.get("pages/routes", search="30.19.0.1")["rows"], "the last route")
        expect(first.get_by_text(f"100 of {ROUTES + 20:,} routes")).to_be_visible()
        assert long_holds(bgpd) == held
        assert resident_mib(bgpd) - memory < MOST_MIB
        leaf1.close()
        bgpd.wait(lambda: viewers.have_all(b'"event":"session.closed"'), "each viewer to see it")
        bgpd.wait(lambda: viewers.have_all(b'"level":"critical"'), "each viewer to see the verdict")
        for page in pages:
            expect(page.locator("#verdict")).to_have_class("verdict critical")


def test_browser_of_another_host_needs_the_token_and_then_all_works_over_tls(fabric: Fabric, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    files = {"token_file": str(token), "tls_certificate": str(certificate), "tls_key": str(key)}
    api = table("[api]", listen=f"10.0.1.1:{PORT}", **files)
    with started(fabric, leaf(1), api) as host, browser(fabric.leaf1) as chromium:
        url = f"https://10.0.1.1:{PORT}/"
        for password, status in (("wrong", 401), ("0123456789abcdef", 200)):
            credentials = {"username": "me", "password": password}
            context = chromium.new_context(ignore_https_errors=True, http_credentials=credentials)  # type: ignore
            page = context.new_page()
            answer = page.goto(url)
            assert answer is not None
            assert answer.status == status
            if status == 200:
                expect(page.locator("#connection")).to_have_text("live")
                page.get_by_role("link", name="Routes", exact=True).click()
                expect(page.get_by_text("0 of 0 routes")).to_be_visible()
            context.close()
        assert host.log("api.failed") == []
