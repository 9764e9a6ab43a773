"""What bgpd publishes to orchestrators: its own status, and the state of the workloads and services they sent.

JSON over MQTT and in the answers of the local API. Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a payload: where ("" is the whole), what, and what would be right."""

    path: str
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.wrong}" + (f"; {self.right}" if self.right else "")


class AddressReport(msgspec.Struct, kw_only=True):
    """One address of a workload. In answers of the local API `announced` is whether a neighbor has it, and `neighbors`
    are those that have.
    """

    prefix: str
    state: str
    reason: str = ""
    since: float
    announced: bool = False
    neighbors: list[str] = []


class WorkloadReport(msgspec.Struct, kw_only=True):
    """`.../workloads/<id>/state`: what became of a workload.

    `state` is the least good of its addresses' states ("failed", "conflict", "moved", "pending", "suppressed",
    "announced"), with its reason; "failed" if nothing was accepted yet. `errors` say why the latest payload was
    refused: the former one, if there is one, stays in force. `not_saved`, in answers of the local API: why a crash of
    the daemon would lose what was asked for; it is saved as soon as that is possible.
    """

    id: str
    state: str
    reason: str = ""
    since: float = 0.0
    addresses: list[AddressReport] = []
    errors: list[Problem] = []
    not_saved: str = ""


class ThawReport(msgspec.Struct, kw_only=True):
    """Answer to `bgpd evpn clear MAC`: how many endpoints of this host were frozen (duplicate detection)."""

    mac: str
    endpoints: int


class HostStatus(msgspec.Struct, kw_only=True):
    """`.../status`: this host and its daemon. The last will is the same with `online` false."""

    online: Annotated[bool, Meta(description="Whether the daemon is connected to the broker.")]
    boot_id: Annotated[str, Meta(description="UUID of this boot of the host.")]
    version: Annotated[str, Meta(description="Version of bgpd.")]
    generation: Annotated[int | None, Meta(description="Latest generation that was complete and is applied.")] = None
    epoch: Annotated[str, Meta(description="The epoch of that generation, as `sync` gave it.")] = ""
    complete: Annotated[bool, Meta(description="Whether the snapshot was heard whole on this connection.")] = False
    ready: Annotated[bool, Meta(description="Whether routes are learned and workloads announced.")] = False
    reason: Annotated[str, Meta(description="Why it is not ready.")] = ""
    neighbors: Annotated[dict[str, str], Meta(description="State of each BGP session, by neighbor.")] = {}
    errors: Annotated[list[Problem], Meta(description="What is wrong with the feed or the state directory.")] = []
