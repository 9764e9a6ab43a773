"""What the RIB says of all that enters it, for whoever records it: enough to work out later what a table had.

`Recorder` itself records nothing. It is called in the event loop and has to be quick; what it is given is not changed
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import SessionConfig
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source
from bgpd.rib.next_hops import AllowedNextHops, LocalNextHops


class Recorder:
    """Who records nothing, and the form of who does. `is_on`: whether anything is recorded."""

    is_on = False

    def session_up(
        self,
        source: Source,
        negotiated: Negotiated,
        config: SessionConfig,
        allowed: AllowedNextHops | LocalNextHops | None,
        *,
        is_adopted: bool = False,
        is_over: bool = False,
    ) -> None:
        """A session is established, and may name these next hops (None: any). `is_adopted`: another process had it;
        `is_over`: and only its routes are kept."""

    def forgotten(self, source: Source) -> None:
        """Nothing is left of a session that has ended."""

    def removed(self, source: Source, family: Family) -> None:
        """The routes of a session that has ended are no longer used, from now on."""

    def long_lived(self, source: Source, family: Family) -> None:
        """The routes of a session that has ended are LLGR_STALE from now on."""

    def allowed_changed(self, source: Source, allowed: AllowedNextHops | LocalNextHops) -> None:
        """A neighbor may name these next hops from now on."""

    def refresh_began(self, source: Source, family: Family) -> None:
        """A neighbor sends all its routes again."""

    def refresh_ended(self, source: Source, family: Family) -> None:
        """It has: what it has not sent again is removed."""

    def discarded(self, source: Source, family: Family, keys: Sequence[bytes]) -> None:
        """These keys of the UPDATEs recorded last were not taken, since the neighbor has sent too many."""

    def local(
        self,
        source: Source,
        place: tuple[str, Family],
        keys: Sequence[bytes],
        attributes: Attributes | None,
        next_hop: NextHop | None = None,
        overlay: Overlay | None = None,
    ) -> None:
        """This host's own routes of a VRF and family have these attributes now; None: they are withdrawn."""

    def imported(self, vrf: str, family: Family, keys: Sequence[bytes], path: Path) -> None:
        """These keys of a VRF have this path from EVPN now."""

    def imported_few(self, vrf: str, family: Family, routes: Sequence[tuple[bytes, Path]]) -> None:
        """These keys of a VRF have these paths from EVPN now, all of one source."""

    def imports_withdrawn(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None:
        """These keys of a VRF have no path of this source any more."""

    def imports_removed(self, vrf: str, family: Family, source: Source) -> None:
        """A VRF has no path of this source any more, from now on."""

    def told(
        self,
        source: Source,
        place: tuple[str, Family],
        keys: Sequence[bytes],
        attributes: Attributes | None,
        next_hop: bytes = b"",
        *,
        spoken: Family,
        overlay: Overlay | None = None,
    ) -> None:
        """A neighbor was sent this host's own routes of a VRF and family with these attributes, by UPDATEs of the
        family `spoken`; None: they were withdrawn."""

    def next_hop(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """It is known now why a next hop cannot be reached, "" if it can."""

    def configured(self, config: RibConfig) -> None:
        """Another configuration is in force."""
