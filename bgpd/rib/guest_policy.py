"""What a guest of this host may announce ([[workload.bgp]]), and the import policy of any session.

A guest's prefixes are those that its section permits; never a default route, and no prefix that is, or has in it, a
block that this host announces as an aggregate. What is permitted passes the policy that the section names.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.prefix import covers, parse_prefix
from bgpd.rib.policy import DEFAULT_KEY, Policy, Route, Trace, Verdict, build_policy
from bgpd.rib.policy_match import PrefixSet, compile_prefixes


class _Refusal(enum.IntEnum):
    """Why a prefix is refused, as a trace: rules of a policy have numbers from 0 on."""

    DEFAULT = -1
    NOT_PERMITTED = -2
    OWN_BLOCK = -3


class GuestPolicy:
    """The import policy of the guests of one section; `blocks` are this host's aggregates of their VRF."""

    by_prefix = True
    signs: tuple[bytes, ...] | None = None
    takes_learned = True

    def __init__(self, guest: GuestConfig, inner: Policy, *, blocks: Iterable[str]) -> None:
        self.name = inner.name
        self._guest = guest.name
        self._inner = inner
        self._permitted = compile_prefixes(guest.prefixes, f"workload.bgp.{guest.name}.prefixes")
        self._blocks = [parse_prefix(block) for block in blocks]

    def split(self, route: Route, keys: Sequence[bytes]) -> list[tuple[Trace, Sequence[bytes]]]:
        permitted = self._permitted.get(route.family)
        blocks = [key for family, key in self._blocks if family is route.family]
        taken: list[bytes] = []
        refused: dict[Trace, list[bytes]] = {}
        for key in keys:
            why = _why_refused(key, permitted, blocks)
            if why is None:
                taken.append(key)
            else:
                refused.setdefault((why,), []).append(key)
        inner = self._inner.split(route, taken) if taken else []
        return [*inner, *refused.items()]

    def verdict(self, route: Route, trace: Trace) -> Verdict:
        if not trace or trace[0] >= 0:
            return self._inner.verdict(route, trace)
        return route.attributes, f"{_REASONS[_Refusal(trace[0])]} (workload.bgp {self._guest})"


_REASONS = {
    _Refusal.DEFAULT: "no guest may announce a default route",
    _Refusal.NOT_PERMITTED: "its prefixes do not permit it",
    _Refusal.OWN_BLOCK: "it is, or has in it, a block that this host announces as an aggregate",
}


def _why_refused(key: bytes, permitted: PrefixSet | None, blocks: Iterable[bytes]) -> _Refusal | None:
    if key == DEFAULT_KEY:
        return _Refusal.DEFAULT
    if permitted is None or not permitted.matches(key):
        return _Refusal.NOT_PERMITTED
    return _Refusal.OWN_BLOCK if any(covers(key, block) for block in blocks) else None


def import_policy(session: SessionConfig, config: RibConfig, *, where: str) -> Policy:
    """The import policy of a session.

    Raises: PolicyError: there is none of that name, or one of its rules cannot be understood.
    """
    named = build_policy(session.import_, config.policy, where=where, exporting=False)
    if not isinstance(session, GuestConfig):
        return named
    blocks = [aggregate.prefix for aggregate in config.aggregate if aggregate.vrf == session.vrf]
    return GuestPolicy(session, named, blocks=blocks)
