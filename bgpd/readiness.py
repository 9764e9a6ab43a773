"""When a freshly started daemon has heard everything: then kernel routes that an earlier run left and nobody wants go.

Until then they keep forwarding, as of a restarting speaker (RFC 4724 section 4.1, Selection_Deferral_Timer). Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterable

from bgpd.model.iana import Family
from bgpd.model.path import Source

ESTABLISH_WAIT_S = 15.0
"""A configured neighbor that is not established by then is not waited for."""
CONVERGENCE_CAP_S = 60.0
"""An established neighbor that has not sent End-of-RIB by then is not waited for."""


def not_converged(
    age_s: float,
    *,
    synchronised: bool,
    neighbors: Iterable[tuple[str, bool]],
    awaiting: Iterable[tuple[Source, Family]],
) -> str:
    """What is still waited for, or "".

    `age_s`: since the start. `synchronised`: the workload sources told their first state. `neighbors`: each configured
    one, and whether it is established; while none is, old routes are the best that there is. `awaiting`: established
    sessions and families without End-of-RIB.
    """
    if not synchronised:
        return "workload sources have not told their first state"
    states = dict(neighbors)
    missing = [name for name, established in states.items() if not established]
    if missing and (age_s < ESTABLISH_WAIT_S or len(missing) == len(states)):
        return f"neighbor {missing[0]} is not established"
    if age_s < CONVERGENCE_CAP_S:
        for source, family in awaiting:
            return f"neighbor {source.name} has not sent End-of-RIB of {family}"
    return ""
