"""`make lab-see`: the web page of a host of the two-leaf laboratory, while things break on a schedule.

The page is on this machine's loopback meanwhile. Left behind are pictures of it at each step, the journal and its
events as text, and a support bundle.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as NotShown

from labs.browser import PATIENCE_MS, browser
from labs.experiments import OUTAGE_LIMIT_MS
from labs.laboratory import Laboratory
from labs.namespace import Namespace
from labs.process import LabError
from labs.two_leaf import TwoLeaf

PORT = 9179
"""`[api] listen` of host1, and where the page is on this machine if nobody else listens there."""
HOST, LEAF, OTHER_LEAF = "host1", "leaf1", "leaf2"
REMOTE_POD = "10.64.2.1"


class See(TwoLeaf):
    """For `two-leaf.clab.yml`; what is left behind goes to `output`."""

    def __init__(
        self, lab: Laboratory, *, headline: Callable[[str], None], show: Callable[[str, str], None], output: Path
    ) -> None:
        super().__init__(lab, headline=headline, show=show)
        self._output = output

    def steps(self) -> None:
        """Break and mend what an operator meets, with the page open all the time."""
        self._output.mkdir(parents=True, exist_ok=True)
        expect.set_options(timeout=PATIENCE_MS)
        with relay(self.lab.namespaces[HOST]) as port, browser(self.lab.namespaces[HOST]) as chromium:
            self.lab.progress(f"the page of {HOST}: http://127.0.0.1:{port}/ while this runs")
            self._page = chromium.new_page(viewport={"width": 1200, "height": 900})
            self._page.goto(f"http://127.0.0.1:{PORT}/")
            self._picture("all-is-well", "", "2 of 2 neighbors")
            began = time.time()
            self._broken_link()
            self._dead_leaf()
            self._drained()
            self._picture("explain", f"#view=explain&q={REMOTE_POD}", shown=REMOTE_POD)
            self._picture("journal", "#view=journal", shown="session.established")
            self._picture("before-it-broke", f"#view=overview&at={began:.3f}", "2 of 2 neighbors")
        self._leave_behind()

    def show_tables(self) -> None:
        """What there was to see is left behind."""

    def _broken_link(self) -> None:
        pairs, link = self.across(), f"link {LEAF} - {HOST}"
        down, up = (lambda: self.lab.set_link(LEAF, HOST, "down")), (lambda: self.lab.set_link(LEAF, HOST, "up"))
        self.under_traffic(f"{link} cut", down, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS)
        self._picture("link-cut", "", f"without a session with {LEAF}")
        self.under_traffic(f"{link} restored", up, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS, converge=True)

    def _dead_leaf(self) -> None:
        frr, pairs, name = self.lab.frr[OTHER_LEAF], self.across(), f"{OTHER_LEAF}: BGP daemon"
        self.under_traffic(f"{name} killed", frr.kill, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS)
        self._picture("leaf-dead", "", f"without a session with {OTHER_LEAF}")
        self.under_traffic(f"{name} restarted", frr.restart_bgpd, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS, converge=True)

    def _drained(self) -> None:
        daemon = self.lab.bgpd[HOST]
        self._headline(f"bgpd drain on ({HOST})")
        daemon.cli("drain", "on")
        self._picture("draining", "", "out of service by order")
        daemon.cli("drain", "off")
        self._picture("all-is-well-again", "", "2 of 2 neighbors")

    def _picture(self, name: str, place: str, verdict: str = "", *, shown: str = "") -> None:
        """A picture of the page at a place, once it shows what it should."""
        page: Page = self._page
        with self._checked(f"the page: {name}") as detail:
            page.evaluate("place => { location.hash = place; }", place or "#view=overview")
            try:
                expect(page.locator("#verdict")).to_contain_text(verdict)
                expect(page.locator("main")).to_contain_text(shown)
            except (AssertionError, NotShown) as error:
                raise LabError(f'the page does not show "{verdict or shown}": {error}') from None
            finally:
                page.screenshot(path=self._output / f"{name}.png")
            detail.append(f"{self._output / f'{name}.png'}")

    def _leave_behind(self) -> None:
        """The journal, its events as text, and a bundle."""
        self._headline("what is left behind")
        daemon = self.lab.bgpd[HOST]
        with self._checked("journal and bundle") as detail:
            (self._output / "events.txt").write_text(daemon.cli("show", "events"))
            bundle = self._output / f"bundle-{HOST}.tar.gz"
            bundle.unlink(missing_ok=True)
            daemon.cli("bundle", str(bundle), "--reason", "make lab-see")
            _copy_database(daemon.directory / "state/journal.sqlite", self._output / "journal.sqlite")
            detail.append(f"{self._output}: events.txt, journal.sqlite, {bundle.name}")


def _copy_database(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


@contextlib.contextmanager
def relay(namespace: Namespace, port: int = PORT) -> Iterator[int]:
    """Passes connections to this machine's loopback on to the loopback of a namespace; on which port: `port`, or any
    other if that is taken."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError:
        listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, namespace, port), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, namespace: Namespace, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            outside, _ = listener.accept()
            try:
                with namespace.entered():
                    inside = socket.create_connection(("127.0.0.1", port), timeout=10)
            except (OSError, LabError):
                outside.close()
                continue
            inside.settimeout(None)  # the page's stream may say nothing for longer
            for one, other in ((outside, inside), (inside, outside)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
