"""`bgpd explain` as a story from the top: the verdict, the kernel, its next hops, the RIB's candidates, who said so.

Made of the JSON of an ExplainView; pure but for the time that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bgpd.cli import text

View = Mapping[str, Any]

_MARGIN = 10
_MARKS = {"best": ">", "multipath": "=", "rejected": "x", "lost": " "}


def explain_lines(view: View, now: float) -> Iterator[str]:
    """The lines of the story."""
    yield f"{view['address']}{' in VRF ' + view['vrf'] if view.get('vrf') else ''}: {view['verdict']}"
    yield "kernel and RIB agree" if view["agrees"] else "KERNEL AND RIB DIFFER"
    yield ""
    yield from _kernel(view.get("kernel"))
    if fib := view.get("fib"):
        yield from _section(
            "fib", [f"{fib['prefix']} {fib['state']}" + (f": {fib['error']}" if fib.get("error") else "")]
        )
    if workload := view.get("workload"):
        yield from _section("workload", _workload(workload, now))
    yield from _section("rib", _route(view.get("route"), now))
    yield from _section("overlay", list(view.get("overlay", ())))
    yield from _section("neighbor", [_neighbor(neighbor, now) for neighbor in view.get("neighbors", ())])


def _section(title: str, lines: list[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"{title if index == 0 else '':<{_MARGIN}}{line}"


def _kernel(kernel: View | None) -> Iterator[str]:
    if kernel is None:
        yield from _section("kernel", ["not asked"])
        return
    if kernel.get("error"):
        yield from _section("kernel", [kernel["error"]])
        return
    owner = f"protocol {kernel['protocol']}{' (bgpd)' if kernel['ours'] else ''}"
    group = f", nexthop group {kernel['group']}" if kernel.get("group") else ""
    lines = [f"{kernel['prefix']} table {kernel['table']} {owner} metric {kernel['metric']}{group}"]
    hops = kernel.get("next_hops", ())
    lines += [f"  {'*' if hop.get('live', True) else '!'} {text.next_hop(hop)}" for hop in hops]
    yield from _section("kernel", lines)


def _workload(workload: View, now: float) -> list[str]:
    interface = f" on {workload['interface']}" if workload.get("interface") else ""
    reason = f": {workload['reason']}" if workload.get("reason") else ""
    since = text.age(workload["since"], now)
    who = f"{workload['prefix']} {workload['id']} ({workload['source']}){interface}"
    return [f"{who} {workload['state']} for {since}{reason}"]


def _route(route: View | None, now: float) -> list[str]:
    if route is None:
        return ["no route covers it"]
    lines = [f"{route['prefix']} {route['family']}"]
    for candidate in route.get("candidates", ()):
        via = f" via {candidate['next_hop']}" if candidate.get("next_hop") else ""
        path = f", AS path {candidate['as_path']}" if candidate.get("as_path") else ""
        heard = f", said so {text.age(candidate['heard_at'], now)} ago" if candidate.get("heard_at") else ""
        role = candidate["role"]
        lines.append(f"  {_MARKS.get(role, ' ')} {candidate['source']}{via}{path}{heard}")
        why = candidate.get("reason") or ("" if role == "best" else "no reason given")
        lines.append(f"      {role}{': ' + why if why else ''}")
    return lines


def _neighbor(neighbor: View, now: float) -> str:
    since = text.age(neighbor["since"], now)
    error = f", last error: {neighbor['last_error']}" if neighbor.get("last_error") else ""
    return f"{neighbor['name']} {text.place(neighbor)} AS {neighbor['asn']} {neighbor['state']} for {since}{error}"
