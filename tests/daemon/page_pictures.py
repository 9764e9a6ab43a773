"""The pictures of docs/page.md, taken of a host with two leaves (`make pictures`).

`python -m tests.daemon.page_pictures` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from labs.browser import PATIENCE_MS, browser
from tests.daemon.fabric import Fabric, leaf, started, table

DOCS = Path(__file__).resolve().parents[2] / "docs"
URL = "http://127.0.0.1:9179/"
LEARNED = tuple(f"10.{number}.0.0/16" for number in range(9, 29))


def main() -> None:
    """Write docs/page-*.png."""
    expect.set_options(timeout=PATIENCE_MS)
    pods = [table("[[workload.static]]", prefix=f"10.64.1.{number}/32", interface="pod1") for number in (5, 6, 7)]
    api = table("[api]", listen="127.0.0.1:9179")
    with (
        Fabric() as fabric,
        fabric.frr(1, networks=LEARNED) as _,
        fabric.frr(2, networks=LEARNED) as leaf2,
        started(fabric, leaf(1), leaf(2), *pods, api) as host,
        browser(host.namespace) as chromium,
    ):
        host.wait_established("leaf1", "leaf2")
        host.wait_hops("10.28.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        host.wait_ready()
        page = chromium.new_page(viewport={"width": 1100, "height": 820})
        page.goto(URL)
        expect(page.locator("#verdict")).to_contain_text("2 of 2 neighbors")
        leaf2.vtysh("configure terminal", "router bgp 65202", "neighbor 10.0.2.1 shutdown")
        expect(page.locator("#verdict")).to_contain_text("without a session with leaf2")
        page.screenshot(path=DOCS / "page-overview.png")
        page.goto(f"{URL}#view=explain&q=10.9.1.5")
        expect(page.locator(".chain li")).to_have_count(4)
        page.screenshot(path=DOCS / "page-explain.png", clip={"x": 0, "y": 0, "width": 1100, "height": 520})
        phone = chromium.new_page(viewport={"width": 390, "height": 700}, color_scheme="dark")
        phone.goto(URL)
        expect(phone.locator("#verdict")).to_contain_text("without a session with leaf2")
        phone.screenshot(path=DOCS / "page-phone.png")


if __name__ == "__main__":
    main()
