"""What the API needs of the daemon: views to read, and the few things that may be ordered.

The daemon implements it; the server knows nothing else of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from bgpd.config.schema import Config
from bgpd.journal.store import Sought
from bgpd.log import EventRing
from bgpd.model.iana import Family
from bgpd.model.views.explained import ExplainView, PastView, WhatIfView, WhyNotView
from bgpd.model.views.host import EventView, HealthView, OverviewView
from bgpd.model.views.orders import DrainRequest, DrainView, ReloadView, UpgradeView
from bgpd.model.views.queries import PageQuery, PastQuery, PastTableQuery, ViewQuery

Listing = Callable[[ViewQuery], Iterator[msgspec.Struct | None]]
"""Makes the views of one listing, one at a time, for the query (which it may narrow by; the server does so anyway).

The server steps it in slices and lets the loop go on between them: it must stay valid when tables change meanwhile, and
yields None now and then (say, every 1,000 keys) where it skips much, so that a slice can end. A step takes < 1 ms.
"""


class Paged(NamedTuple):
    """The rows of a long table in their order, after the place that a query names.

    `steps` gives the rows of one place, and what to ask with for those after it. Like a listing it is stepped in
    slices, and yields None where it has none yet; a place may have no rows. `total` counts all places, None if unknown.
    """

    total: int | None
    steps: Iterator[tuple[str, Sequence[msgspec.Struct]] | None]


Pager = Callable[[PageQuery], Paged]


class Rejected(Exception):
    """A request that is not carried out: HTTP status, what was wrong, what to do, when to try again (0: not said)."""

    def __init__(self, status: int, error: str, hint: str = "", *, retry_after_s: int = 0) -> None:
        super().__init__(error)
        self.status = status
        self.error, self.hint = _shown(error), _shown(hint)
        self.retry_after_s = retry_after_s


def _shown(text: str) -> str:
    """As JSON can have it: a header field that is quoted may be no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


Answer = tuple[int, msgspec.Struct]
"""An HTTP status and the value that becomes the JSON of its body."""


class Objects(Protocol):
    """Workloads or services that local programs put (`/v1/workloads/ID`, `/v1/services/NAME`).

    `who` is the peer of the unix socket, such as "uid=0 gid=0 pid=812".
    """

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        """Takes a JSON payload, idempotently; answers when it is announced, or why it is not at the timeout."""
        ...

    async def delete(self, id: str, *, who: str) -> Answer:
        """Gives it up."""
        ...

    def get(self, id: str) -> Answer:
        """What became of it."""
        ...


class Drain(Protocol):
    """Takes this host out of service (`/v1/drain`)."""

    def view(self) -> DrainView:
        """How far it is."""
        ...

    async def on(self, request: DrainRequest, *, who: str) -> DrainView:
        """Begins, or changes what was ordered. Raises: Rejected: with 409, a service would be gone."""
        ...

    async def off(self, *, who: str) -> DrainView:
        """Brings the host back."""
        ...


class Upgrade(Protocol):
    """Makes the daemon the version that is installed (`/v1/upgrade`)."""

    def view(self) -> UpgradeView:
        """What runs, and what became of the last upgrade."""
        ...

    async def check(self, *, who: str) -> UpgradeView:
        """Whether the installed version can start. Raises: Rejected: with 409 and the reason."""
        ...

    def begin(self) -> None:
        """After `check`: the daemon becomes that version, soon."""
        ...


class Backend(Protocol):
    """The daemon, as the API sees it."""

    @property
    def listings(self) -> Mapping[str, Listing]:
        """By name ("neighbors", "routes", "fib", "workloads", ...): each is served as `GET /v1/NAME`."""
        ...

    @property
    def pagers(self) -> Mapping[str, Pager]:
        """By name ("routes", "evpn", "workloads", "services"): each is served as `GET /v1/pages/NAME`."""
        ...

    @property
    def objects(self) -> Mapping[str, Objects]:
        """By name ("workloads", "services"), those that may be put and deleted; others answer 405."""
        ...

    @property
    def drain(self) -> Drain:
        """Served as `GET`, `PUT` and `DELETE /v1/drain`."""
        ...

    @property
    def upgrade(self) -> Upgrade:
        """Served as `GET` and `POST /v1/upgrade`."""
        ...

    @property
    def events(self) -> EventRing:
        """The latest of this run, followed by `GET /v1/monitor`."""
        ...

    async def past_events(self, sought: Sought) -> list[EventView]:
        """Served as `GET /v1/events`, oldest first: of earlier runs too, where they are kept on disk."""
        ...

    async def started(self) -> None:
        """Returns once the daemon has started: before, there is no kernel to ask, and nobody who carries out orders."""
        ...

    def config(self) -> Config:
        """The configuration in force."""
        ...

    def interfaces(self) -> dict[str, str]:
        """The VRF of each interface of this host, "" for the main table; the oldest interface first."""
        ...

    def health(self) -> HealthView:
        """Cheap: it is asked every few seconds."""
        ...

    def overview(self) -> OverviewView:
        """The host on one screen; cheap: each who looks asks for it every second."""
        ...

    def metrics(self) -> Iterator[str]:
        """Prometheus text, one metric at a time (`prometheus.Registry.render`)."""
        ...

    def mrt(self, vrf: str) -> Iterator[bytes]:
        """The routes of a VRF as MRT records (RFC 6396), some in a step. Raises: Rejected: with 404, no such VRF."""
        ...

    async def explain(self, address: bytes, vrf: str) -> ExplainView:
        """The path of a packed address. Raises: Rejected: with 404 if the VRF does not exist."""
        ...

    async def explain_past(self, address: bytes, vrf: str, at: float) -> PastView:
        """What the RIB had for a packed address at that time. Raises: Rejected: with 404, it is not known, and why."""
        ...

    async def past_routes(self, query: PastQuery) -> bytes:
        """The routes of an earlier time: JSON of a PastRoutesView. Raises: Rejected: with 404, they are not known."""
        ...

    async def past_overview(self, at: float) -> bytes:
        """The host as it was: JSON of a PastOverviewView. Raises: Rejected: with 404, it is not known."""
        ...

    async def past_table(self, kind: str, query: PastTableQuery) -> bytes:
        """EVPN routes, workloads or services of an earlier time: JSON of a PastTableView. Raises: Rejected: with 404,
        there is no such table, or they are not known; with 400, the query is wrong."""
        ...

    async def why_not(self, prefix: tuple[Family, bytes], vrf: str, neighbor: str) -> WhyNotView:
        """What keeps a prefix from being used or announced. Raises: Rejected: with 404, no such VRF or neighbor."""
        ...

    async def what_if_down(self, name: str) -> WhatIfView:
        """What becomes of the routes without a neighbor or an interface. Raises: Rejected: with 404, no such thing."""
        ...

    async def what_if_drained(self, *, all: bool, force: bool) -> WhatIfView:
        """What neighbors would be sent by a drain. Raises: Rejected: with 503, it could not be worked out."""
        ...

    async def what_if_reloaded(self, config: Config) -> WhatIfView:
        """What becomes of the routes with another configuration. Raises: Rejected: 422, it cannot be used; 503."""
        ...

    def thaw(self, mac: bytes) -> int:
        """Ends the freeze of a MAC (EVPN duplicate detection); how many endpoints of this host that concerns."""
        ...

    async def reload(self, confirm_s: float | None = None) -> ReloadView:
        """Reads the configuration file again and applies it, if it has no error; with `confirm_s` on trial so long."""
        ...

    async def confirm(self) -> bool:
        """Keeps the configuration that is on trial; whether one was."""
        ...
