"""Whether packets to an address get there, as far as this host can tell: the first broken link of the chain that
`bgpd explain` shows.

From the neighbor that said it, by the decision and the kernel's route, to the link, the neighbor table and BFD of each
next hop. Looks at values only.
"""

from __future__ import annotations

from bgpd.model.views.explained import ExplainView
from bgpd.model.views.routes import KernelRouteView, NextHopView, RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView

_LOCAL_TABLE = 255
_NO_ANSWER = ("failed", "incomplete")


def first_broken(view: ExplainView) -> str:
    """What keeps packets from getting there, "" if nothing is known to."""
    kernel, workload = view.kernel, view.workload
    if workload is not None and not workload.announced:
        return f"nobody is told that workload {workload.id} is here: {_why_not_announced(workload)}"
    if kernel is None:
        if workload is not None and workload.guests:
            return ""
        return _why_no_route(view.route) or _of_kernel(view)
    if kernel.table == _LOCAL_TABLE:
        return ""
    if kernel.error:
        return f"{kernel.prefix} drops packets: {kernel.error}"
    return _of_next_hops(kernel)


def why_down(neighbor: NeighborView) -> str:
    """That a session is not established, and what is known of it; "" if it is."""
    if neighbor.state == "established":
        return ""
    why = f": {neighbor.last_error}" if neighbor.last_error else ""
    return f"{neighbor.name} is not established ({neighbor.state}{why})"


def _why_not_announced(workload: WorkloadView) -> str:
    return ": ".join(filter(None, (workload.state, workload.reason)))


def _why_no_route(route: RouteView | None) -> str:
    if route is None:
        return "no neighbor has announced a way to it"
    if any(one.role in ("best", "multipath") for one in route.candidates):
        return ""
    reasons = [f"{one.source}: {one.reason}" for one in route.candidates if one.reason]
    return f"{route.prefix} was announced and cannot be used ({'; '.join(reasons)})"


def _of_kernel(view: ExplainView) -> str:
    state = view.fib.state if view.fib is not None else "pending"
    error = f": {view.fib.error}" if view.fib is not None and view.fib.error else ""
    return f"the kernel route is {state}{error}"


def _of_next_hops(kernel: KernelRouteView) -> str:
    """Each next hop is broken; what is wrong with the others only halves the room."""
    if not kernel.next_hops:
        return f"{kernel.prefix} has no next hop"
    broken = [_of_next_hop(hop) for hop in kernel.next_hops]
    return "; ".join(dict.fromkeys(broken)) if all(broken) else ""


def _of_next_hop(hop: NextHopView) -> str:
    where = f"{hop.address}%{hop.interface}" if hop.address else hop.interface
    if not hop.live:
        return f"next hop {where}: {hop.why}"
    if hop.neighbor.partition(" ")[0] in _NO_ANSWER:
        protocol = "NDP" if ":" in hop.address else "ARP"
        return f"next hop {where} does not answer {protocol} (neighbor table: {hop.neighbor})"
    if hop.bfd and hop.bfd not in ("up", "admin-down"):
        return f"next hop {where}: BFD is {hop.bfd}"
    return ""
