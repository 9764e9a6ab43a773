"""The web page in a real browser: what is there, what changes, what was, a restart, and nobody shut out."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.sync_api import Browser, Page, expect

from labs.browser import PATIENCE_MS, browser
from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, leaf, started, table

pytestmark = pytest.mark.netns

PORT = 9179
URL = f"http://127.0.0.1:{PORT}/"
VIEWS = ("overview", "routes", "evpn", "workloads", "services", "explain&q=10.9.1.1", "explain&q=10.99.0.1", "journal")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1200, "height": 900}
PEER = "10.0.1.1"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    pod = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
    vrf = table("[[vrf]]", name="blue", table=1001, vni=5001)
    policy = '[policy.fabric]\nrules = [{ action = "accept" }]\n'
    api = table("[api]", listen=f"127.0.0.1:{PORT}")
    with started(fabric, leaf(1, import_="fabric"), pod, vrf, policy, api) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait_ready()
        yield host


@pytest.fixture(scope="module")
def chromium(host: Host) -> Iterator[Browser]:
    with browser(host.namespace) as found:
        yield found


@contextlib.contextmanager
def looking(
    chromium: Browser, place: str = "", *, permissions: tuple[str, ...] = (), may_fail: bool = False, **settings: Any
) -> Iterator[Page]:
    """A page at a place. It may ask this host only, and, unless it `may_fail`, nothing goes wrong in it."""
    context = chromium.new_context(**{"viewport": DESK, **settings})
    context.grant_permissions(list(permissions))
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: said.type == "error" and not may_fail and wrong.append(said.text))
    page.on("request", lambda request: request.url.startswith((URL, "about:")) or wrong.append(request.url))
    page.goto(f"{URL}{place}")
    expect(page.locator("#connection")).to_have_text("live")
    yield page
    context.close()
    assert wrong == []


def axe(page: Page) -> AxeResults:
    """What axe-core finds wrong. It is put into a document once: it is half a megabyte."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return AxeResults(page.evaluate("axe.run({resultTypes: ['violations']})"))


def go(page: Page, place: str) -> None:
    page.goto(f"{URL}{place}")


def test_what_is_shown_follows_what_happens(host: Host, frr: Frr, chromium: Browser) -> None:
    with looking(chromium, permissions=("clipboard-read", "clipboard-write")) as page:
        verdict, neighbors = page.locator("#verdict"), page.get_by_role("group", name="Neighbors", exact=True)
        expect(verdict).to_contain_text("Ready: 1 of 1 neighbors")
        expect(neighbors).to_contain_text("● established")
        picture = page.get_by_role("img")
        for shown in ("leaf1", "eth0", "group", "VRF blue", "1 workload"):
            expect(picture).to_contain_text(shown)
        assert "leaf1 AS 65201 established (ok)" in (picture.get_attribute("aria-label") or "")

        frr.vtysh("configure terminal", "router bgp 65201", f"neighbor {PEER} shutdown")
        expect(verdict).to_contain_text("Not ready: no neighbor is established")
        expect(verdict).to_have_class("verdict critical")
        closed = host.get("events", event="session.closed", limit=1)[0]["at"]
        expect(verdict).to_contain_text(f"(down since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(closed))}")
        expect(neighbors).to_contain_text("■")
        expect(page.get_by_role("group", name="Events")).to_contain_text("session.closed")
        expect(page.locator(".node.critical")).to_contain_text("leaf1")

        page.get_by_role("button", name="Copy for ticket").click()
        expect(page.locator("#ticket-status")).to_have_text("It is in the clipboard.")
        ticket = str(page.evaluate("navigator.clipboard.readText()"))
        assert re.search(r"^neighbor leaf1 AS 65201 (?!established)", ticket, re.MULTILINE)
        assert "session.closed neighbor=leaf1" in ticket
        assert ticket.endswith(URL)
        page.keyboard.press("Escape")

        frr.vtysh("configure terminal", "router bgp 65201", f"no neighbor {PEER} shutdown")
        expect(verdict).to_contain_text("Ready: 1 of 1 neighbors")
        host.wait_ready()


def test_tables_explain_and_journal_are_places_that_can_be_sent(host: Host, chromium: Browser) -> None:
    with looking(chromium, may_fail=True) as page:
        page.get_by_role("link", name="Routes", exact=True).click()
        expect(page.get_by_text("2 of 2 routes")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("10.9.7.7")
        page.keyboard.press("Enter")
        expect(page.get_by_text("1 route", exact=True)).to_be_visible()
        assert page.url.endswith("#view=routes&q=10.9.7.7")
        page.get_by_label("State").select_option("local")
        expect(page.get_by_text("nothing is found")).to_be_visible()
        page.get_by_label("Search").fill("nobody")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("strong.problem")).to_contain_text('there is no neighbor "nobody"')

        go(page, "#view=routes&q=leaf1&vrf=main")
        page.get_by_role("link", name="10.9.0.0/16").click()
        expect(page.locator(".chain li")).to_have_count(4)
        expect(page.locator(".chain")).to_contain_text("10.9.0.0/16 by bgpd")
        paths = page.get_by_role("group", name="Paths of 10.9.0.0/16")
        expect(paths).to_contain_text("best")
        expect(paths).to_contain_text(re.compile(r'policy "fabric", rule 0 \(.*\.toml:\d+\)'))
        page.get_by_role("button", name="Show the messages").click()
        expect(page.get_by_role("group", name="Messages")).to_contain_text("f" * 32)
        page.get_by_label("Address").fill("10.99.0.1")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator(".chain li.critical").first).to_contain_text("no route covers it")

        go(page, "#view=workloads&q=pod1")
        expect(page.get_by_role("group", name="Workloads")).to_contain_text("announced")
        go(page, "#view=journal&neighbor=leaf1&event=session")
        expect(page.get_by_role("group", name="Events")).to_contain_text("session.established")
        expect(page.get_by_role("group", name="Events")).not_to_contain_text("bgpd.started")
        assert host.log("api.failed") == []


def test_time_moves_the_whole_page(host: Host, frr: Frr, chromium: Browser) -> None:
    host.wait_ready()
    host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
    before = time.time()
    frr.vtysh("configure terminal", "router bgp 65201", f"neighbor {PEER} shutdown")
    host.wait(lambda: not host.established(), "the end of the session")
    during = time.time()
    frr.vtysh("configure terminal", "router bgp 65201", f"no neighbor {PEER} shutdown")
    host.wait_established("leaf1")
    host.wait_ready()
    with looking(chromium, f"#view=journal&at={during:.3f}", may_fail=True) as page:
        verdict, events = page.locator("#verdict"), page.get_by_role("group", name="Events")
        expect(verdict).to_contain_text("0 of 1 neighbors; down: leaf1")
        closed = events.get_by_role("row").filter(has_text="session.closed").first
        closed.get_by_role("link").click()
        expect(events.locator("tbody tr").first).to_contain_text("session.closed")
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_role("group", name="Neighbors", exact=True)).to_contain_text("■ down")
        expect(page.get_by_role("group", name="Kernel routes")).to_be_visible()
        expect(page.get_by_text("As seen at")).to_be_visible()
        expect(page.get_by_role("img")).to_contain_text("eth0")
        go(page, f"#view=explain&q=10.9.1.1&at={during:.3f}")
        expect(page.locator(".chain li.critical").first).to_contain_text("Neighbor leaf1down")
        expect(page.get_by_role("group", name="Changes in the hour before")).to_contain_text("10.9.0.0/16")
        go(page, f"#view=workloads&q=pod1&at={during:.3f}")
        pod = page.get_by_role("group", name="Workloads").get_by_role("row").filter(has_text="10.64.1.5/32")
        expect(pod).to_contain_text("to nobody")
        expect(page.get_by_role("status").filter(has_text="1 workload as of")).to_be_visible()
        go(page, f"#view=workloads&q=pod1&state=announced&at={before:.3f}")
        expect(pod).to_contain_text("leaf1")
        for view, none in (("evpn", "0 EVPN routes as of"), ("services", "0 services as of")):
            go(page, f"#view={view}&q=nothing&at={during:.3f}")
            expect(page.get_by_role("status").filter(has_text=none)).to_be_visible()
        go(page, f"#view=routes&at={during:.3f}")
        expect(page.get_by_role("note")).to_contain_text("are not shown. The history has routes by their prefixes")
        for at, count in ((during, 0), (before, 1)):
            go(page, f"#view=routes&q=10.0.0.0/8&at={at:.3f}")
            expect(page.get_by_role("group", name="Routes").get_by_role("link", name="10.9.0.0/16")).to_have_count(
                count
            )
            expect(page.get_by_role("status").filter(has_text="the history begins at")).to_be_visible()
        go(page, f"#view=routes&q=10.0.0.0/8&family=ipv6-unicast&at={before:.3f}")
        expect(page.get_by_role("status").filter(has_text="0 routes as of")).to_be_visible()
        go(page, f"#view=explain&q=10.9.1.1&at={before:.3f}")
        expect(page.locator(".chain li")).to_have_count(2)
        expect(page.locator(".chain li.critical")).to_have_count(0)
        expect(page.get_by_role("group", name="Paths of 10.9.0.0/16")).to_contain_text("best")
        go(page, "#view=explain&q=10.9.1.1&at=1000")
        expect(page.locator("strong.problem")).to_contain_text("history")
        go(page, f"#at={before:.3f}")
        expect(verdict).to_contain_text("1 of 1 neighbors, as the journal tells")
        go(page, "#at=1000")
        expect(verdict).to_contain_text("the journal does not go back that far")
        slider = page.get_by_role("slider")
        page.get_by_role("button", name="Now").click()
        expect(verdict).to_contain_text("Ready: 1 of 1 neighbors")
        slider.focus()
        page.keyboard.press("Home")
        expect(slider).not_to_have_attribute("aria-valuetext", "now")
        expect(verdict).to_contain_text("the journal does not go back that far")
        page.keyboard.press("End")
        expect(verdict).to_contain_text("Ready: 1 of 1 neighbors")
        assert page.url.endswith("#view=overview")
    with looking(chromium, f"#at={before:.3f}") as page:  # the link alone, as others are sent it
        expect(page.get_by_role("group", name="Neighbors", exact=True)).to_contain_text("65201")


def test_page_goes_on_by_itself_after_a_restart(host: Host, chromium: Browser) -> None:
    with looking(chromium, "#view=overview", may_fail=True) as page:
        born = page.evaluate("performance.timeOrigin")
        host.terminate(signal.SIGKILL)
        expect(page.locator("#connection")).to_have_text("connection lost, trying again")
        host.start()
        expect(page.locator("#connection")).to_have_text("live")
        host.wait_ready()
        expect(page.locator("#verdict")).to_contain_text("Ready: 1 of 1 neighbors")
        events = page.get_by_role("group", name="Events")
        expect(events).to_contain_text(f"pid={host.get('upgrade')['pid']}")
        host.cli("upgrade", timeout_s=120.0)
        expect(events).to_contain_text("handover")
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#verdict")).to_contain_text("Ready: 1 of 1 neighbors")
        assert page.evaluate("performance.timeOrigin") == born
        other = host.get("overview")
        other["health"]["version"] = "0.0.1"
        stream = f"event: overview\ndata: {json.dumps(other)}\n\n"
        page.route("**/v1/live", lambda route: route.fulfill(content_type="text/event-stream", body=stream))
        page.reload()
        expect(page.locator("#host")).to_have_text("host1 0.0.1")
        born = page.evaluate("performance.timeOrigin")
        page.unroute_all()
        expect(page.locator("#host")).not_to_have_text("host1 0.0.1")
        assert page.evaluate("performance.timeOrigin") > born, "the page of another version loads itself anew"


def test_nobody_is_shut_out(host: Host, chromium: Browser) -> None:
    for scheme, size, views in (("light", DESK, VIEWS), ("dark", PHONE, ("overview", "routes"))):
        with looking(chromium, viewport=size, color_scheme=scheme) as page:
            for view in views:
                go(page, f"#view={view}")
                expect(page.locator(".chain" if "explain" in view else "main h2").first).to_be_visible()
                found = axe(page)
                assert found.violations_count == 0, f"{view}: {found.generate_report()}"
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], view


def test_page_is_read_by_keyboard_alone(host: Host, chromium: Browser) -> None:
    with looking(chromium) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        link = page.get_by_role("link", name="leaf1")
        link.focus()
        host.cli("drain", "on", "--all", "--force")
        expect(page.locator("#verdict")).to_contain_text("out of service by order")
        host.cli("drain", "off")
        expect(page.locator("#verdict")).to_contain_text("Ready: 1 of 1 neighbors")
        expect(link).to_be_focused()
