"""Prefixes of a neighbor that were announced beyond `max_prefixes`, where these are discarded (`max_prefixes_action`).

What is there is replaced and withdrawn as ever; only what would be one more is left out, and remembered. Once there is
room again the neighbor is asked for its routes (RFC 2918), at most once in ASK_PAUSE_S; what is beyond the limit then
is noted anew. As many keys are remembered as may be taken, but LEAST_KEPT to MOST_KEPT; of more only the number.
"""

from __future__ import annotations

from collections.abc import Sequence

from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.rib.loc_rib import LocRib

LEAST_KEPT, MOST_KEPT = 1024, 65_536
ASK_PAUSE_S = 60.0


class Discarded:
    """Of one session, by family."""

    def __init__(self) -> None:
        self._keys: dict[Family, set[bytes]] = {}
        self._more: dict[Family, int] = {}
        self._asked_at: dict[Family, float] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def families(self) -> list[Family]:
        """Those of which something was discarded."""
        return list(self._keys)

    def count(self, family: Family) -> int:
        """Prefixes that are announced and were not taken; of very many, announcements of them."""
        return len(self._keys.get(family, ())) + self._more.get(family, 0)

    def saved(self, family: Family) -> tuple[list[bytes], int, float | None]:
        """What `restore` takes."""
        return list(self._keys.get(family, ())), self._more.get(family, 0), self._asked_at.get(family)

    def restore(self, family: Family, keys: Sequence[bytes], more: int, asked_at: float | None) -> None:
        """Another process has discarded these, and has asked for them then."""
        self._keys[family] = set(keys)
        if asked_at is not None:
            self._asked_at[family] = asked_at
        if more:
            self._more[family] = more

    def withdrawn(self, family: Family, keys: Sequence[bytes]) -> None:
        """These are not announced any more, or were taken."""
        kept = self._keys.get(family)
        if kept is not None:
            kept.difference_update(keys)
            if not kept and not self._more.get(family):
                del self._keys[family]

    def within(self, most: int, table: LocRib, source: Source, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Those of the announced `keys` for which there is room: at most `most` of `source` in the table."""
        family, room = table.family, most - table.received.get(source, 0)
        taken = keys
        if len(keys) > room:
            taken = []
            for key in dict.fromkeys(keys):
                decision = table.routes.get(key)
                former = decision.path_of(source.name) if decision is not None else None
                if former is None or former.source is not source:
                    if room <= 0:
                        self._note(family, key, min(max(most, LEAST_KEPT), MOST_KEPT))
                        continue
                    room -= 1
                taken.append(key)
        self.withdrawn(family, taken)
        return taken

    def _note(self, family: Family, key: bytes, most_kept: int) -> None:
        kept = self._keys.setdefault(family, set())
        if len(kept) < most_kept or key in kept:
            kept.add(key)
        else:
            self._more[family] = self._more.get(family, 0) + 1

    def may_ask(self, family: Family, now: float) -> bool:
        """Whether the neighbor may be asked for its routes again; `now` is of a clock that only goes forward."""
        return now - self._asked_at.get(family, -ASK_PAUSE_S) >= ASK_PAUSE_S

    def asked(self, family: Family, now: float) -> None:
        """It was: all that it announces comes again."""
        self._asked_at[family] = now
        del self._keys[family]
        self._more.pop(family, None)
