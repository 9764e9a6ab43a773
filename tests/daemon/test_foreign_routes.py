"""Other programs' routes of the prefixes that leaves announce, in the same moment: theirs all stay, and the views are
true."""

from __future__ import annotations

import json
import threading
from collections import defaultdict

import pytest

from bgpd.config.schema import FibConfig
from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.wire_peer import WirePeer, update, withdrawal

pytestmark = pytest.mark.netns

METRIC, OURS, OTHER = FibConfig().metric, str(FibConfig().protocol), "77"
PREFIXES = tuple(f"10.{64 + number // 200}.{number % 200}.0/24" for number in range(400))


def batch(fabric: Fabric, lines: list[str]) -> None:
    """Many commands of one `ip`; those that fail are passed over."""
    fabric.host.run("ip", "-force", "-batch", "-", stdin="\n".join(lines) + "\n", check=False)


def protocols(fabric: Fabric) -> dict[str, list[str]]:
    """Protocols of the routes of each prefix."""
    found: dict[str, list[str]] = defaultdict(list)
    for route in json.loads(fabric.host.ip("-N", "-4", "-j", "route", "show")):
        found[route["dst"]].append(route["protocol"])
    return found


def wait_true(fabric: Fabric, host: Host, foreign: set[str]) -> None:
    """Wait until each prefix has the other program's route or ours, and the view says the same."""
    wanted = {prefix: [OTHER] if prefix in foreign else [OURS] for prefix in PREFIXES}
    states = {prefix: "blocked" if prefix in foreign else "installed" for prefix in PREFIXES}

    def is_true() -> bool:
        held = protocols(fabric)
        views = {view["prefix"]: view["state"] for view in host.get("fib") if view["prefix"] in states}
        return {prefix: held[prefix] for prefix in PREFIXES} == wanted and views == states

    host.wait(is_true, "kernel and view to agree")


def test_raced_prefixes_stay_with_the_other_program(fabric: Fabric) -> None:
    with (
        WirePeer(fabric.leaf1) as leaf1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as leaf2,
        started(fabric, leaf(1), leaf(2), table("[fib]", override=[PREFIXES[0]])) as host,
    ):
        session1, session2 = leaf1.establish(), leaf2.establish()
        raced = PREFIXES[::2]
        rest = f"dev pod2 proto {OTHER} metric"
        adds = [f"route add {prefix} {rest} {(METRIC, 20)[number % 4 == 3]}" for number, prefix in enumerate(raced)]
        other = threading.Thread(target=batch, args=(fabric, adds))
        other.start()
        for start in range(0, 400, 20):
            session1.sendall(update(PREFIXES[start : start + 20], asn=65201))
        other.join()
        held = {prefix for prefix, found in protocols(fabric).items() if OTHER in found}
        wait_true(fabric, host, held)
        assert all(f"protocol {OTHER}" in view["error"] for view in host.get("fib") if view["prefix"] in held)
        churn = []
        for _turn in range(5):
            churn += [
                f"route {what} {prefix} {rest} {METRIC}" for prefix in PREFIXES[1::4] for what in ("replace", "del")
            ]
        churn += [f"route replace {prefix} {rest} {METRIC}" for prefix in PREFIXES[1::4]]
        other = threading.Thread(target=batch, args=(fabric, churn))
        other.start()
        while other.is_alive():
            session2.sendall(update(PREFIXES[:100], asn=65202, next_hop="10.0.2.2"))
            session2.sendall(withdrawal(*PREFIXES[:100]))
        other.join()
        held |= set(PREFIXES[1::4])
        wait_true(fabric, host, held)
        view = host.explain(PREFIXES[1].replace("0/24", "9"))
        assert "not bgpd's" in view["verdict"]
        assert f"protocol {OTHER} on pod2, metric {METRIC}" in view["fib"]["error"]
        batch(fabric, [f"route flush proto {OTHER}"])
        wait_true(fabric, host, set())
