"""Alert rules and the dashboard: promtool tries each rule, each has a runbook, and all metrics in them exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bgpd.cli.main import make_parser
from tests.test_documents import described_metrics

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "conf" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
METRICS = {
    name + suffix
    for row in described_metrics()
    for name, kind in re.findall(r"`(\w+)` \| (\w+)", row)
    for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}
H = 'instance="h",job="bgpd"'
LEAF = f'{H},neighbor="leaf1"'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "BgpdDown": ({f"up{{{H}}}": "0x300"}, {f"up{{{H}}}": "0 0 1x300"}),
    "BgpdNotReady": (
        {f"bgpd_ready{{{H}}}": "0x300", f'bgpd_drain{{{H},state="draining"}}': "0x300"},
        {f"bgpd_ready{{{H}}}": "0x300", f'bgpd_drain{{{H},state="draining"}}': "1x300"},
    ),
    "BgpdRestarts": (
        {f"bgpd_start_time_seconds{{{H}}}": "1x270 2 2 3 3 4x30"},
        {f"bgpd_start_time_seconds{{{H}}}": "1x270 2 2 3x30"},
    ),
    "BgpdIsolated": (
        {f"bgpd_neighbor_established{{{LEAF}}}": "0x300", f'bgpd_neighbor_established{{{H},neighbor="b"}}': "0x300"},
        {f"bgpd_neighbor_established{{{LEAF}}}": "0x300", f'bgpd_neighbor_established{{{H},neighbor="b"}}': "1x300"},
    ),
    "BgpdNeighborDown": (
        {f"bgpd_neighbor_established{{{LEAF}}}": "0x300"},
        {f"bgpd_neighbor_established{{{LEAF}}}": "0x295 1x5"},
    ),
    "BgpdNeighborFlaps": (
        {f"bgpd_neighbor_flaps_total{{{LEAF}}}": "0x290 1 2 4x30"},
        {f"bgpd_neighbor_flaps_total{{{LEAF}}}": "0x290 1x30"},
    ),
    "BgpdNeighborAnnouncesNothing": (
        {
            f"bgpd_neighbor_established{{{LEAF}}}": "1x300",
            f'bgpd_neighbor_routes_received{{{LEAF},family="ipv4-unicast"}}': "0x300",
        },
        {
            f"bgpd_neighbor_established{{{LEAF}}}": "1x300",
            f'bgpd_neighbor_routes_received{{{LEAF},family="ipv4-unicast"}}': "0x300",
            f'bgpd_neighbor_routes_received{{{LEAF},family="ipv6-unicast"}}': "7x300",
        },
    ),
    "BgpdAttributeMemory": (
        {
            f"bgpd_neighbor_attribute_bytes{{{LEAF}}}": "90x300",
            f"bgpd_neighbor_attribute_limit_bytes{{{LEAF}}}": "100x300",
        },
        {
            f"bgpd_neighbor_attribute_bytes{{{LEAF}}}": "90x300",
            f"bgpd_neighbor_attribute_limit_bytes{{{LEAF}}}": "0x300",
        },
    ),
    "BgpdBfdDown": (
        {f"bgpd_bfd_up{{{LEAF}}}": "0x300", f"bgpd_neighbor_established{{{LEAF}}}": "1x300"},
        {f"bgpd_bfd_up{{{LEAF}}}": "0x300", f"bgpd_neighbor_established{{{LEAF}}}": "0x300"},
    ),
    "BgpdBfdFlaps": (
        {f"bgpd_bfd_downs_total{{{LEAF}}}": "5x290 6 7 9x30"},
        {f"bgpd_bfd_downs_total{{{LEAF}}}": "5x290 6x30"},
    ),
    "BgpdRoutesPending": (
        {f'bgpd_fib_routes_pending{{{H},vrf=""}}': "9x300"},
        {f'bgpd_fib_routes_pending{{{H},vrf=""}}': "9x296 0 9x10"},
    ),
    "BgpdLoopHeld": (
        {
            f"bgpd_loop_hold_seconds_count{{{H}}}": "0+100x300",
            f'bgpd_loop_hold_seconds_bucket{{{H},le="0.5"}}': "0+99x300",
        },
        {
            f"bgpd_loop_hold_seconds_count{{{H}}}": "0+100x300",
            f'bgpd_loop_hold_seconds_bucket{{{H},le="0.5"}}': "0+100x300",
        },
    ),
    "BgpdConnectionsRefused": (
        {f"bgpd_connections_refused_total{{{H}}}": "0+10x300"},
        {f"bgpd_connections_refused_total{{{H}}}": "0+5x300"},
    ),
}
"""What fires an alert after five hours of a sample each minute, and what is near it and does not."""


def level(metric: str, labels: str = H) -> tuple[dict[str, str], dict[str, str]]:
    """Fires while it is above 0."""
    return {f"{metric}{{{labels}}}": "2x300"}, {f"{metric}{{{labels}}}": "2x299 0x10"}


def growth(metric: str, labels: str = H) -> tuple[dict[str, str], dict[str, str]]:
    """Fires when it has grown; that it is above 0 means nothing."""
    return {f"{metric}{{{labels}}}": "7x294 8x10"}, {f"{metric}{{{labels}}}": "7x310"}


CASES |= {
    "BgpdNeighborUnexpected": (
        {f"bgpd_neighbor_hostname_unexpected{{{LEAF}}}": "1x300"},
        {f"bgpd_neighbor_hostname_unexpected{{{LEAF}}}": "0x300"},
    ),
    "BgpdNeighborDefect": growth("bgpd_neighbor_defects_total", LEAF),
    "BgpdPrefixesDiscarded": level("bgpd_neighbor_prefixes_discarded", f'{LEAF},family="ipv4-unicast"'),
    "BgpdRoutesStale": level("bgpd_neighbor_routes_stale", LEAF),
    "BgpdRoutesFailed": level("bgpd_fib_routes_failed", f'{H},vrf=""'),
    "BgpdRoutesBlocked": level("bgpd_fib_routes_blocked", f'{H},vrf=""'),
    "BgpdRoutesRepaired": growth("bgpd_fib_repaired_total", f'{H},vrf=""'),
    "BgpdInconsistent": growth("bgpd_consistency_repairs_total", f'{H},compared="fib"'),
    "BgpdDescriptorsExhausted": growth("bgpd_descriptors_exhausted_total"),
    "BgpdAddressContested": level("bgpd_workload_addresses_announced_by_neighbors"),
    "BgpdWorkloadsFailed": level("bgpd_workloads", f'{H},source="mqtt",state="conflict"'),
    "BgpdWorkloadsDamped": level("bgpd_workloads", f'{H},source="mqtt",state="damped"'),
    "BgpdServicesLastResort": level("bgpd_services", f'{H},state="last-resort"'),
    "BgpdServicesWithheld": level("bgpd_services", f'{H},state="withheld"'),
    "BgpdProbesFail": level("bgpd_service_probes", f'{H},state="unhealthy"'),
    "BgpdDrained": (
        {f'bgpd_drain{{{H},state="drained"}}': "1x300"},
        {f'bgpd_drain{{{H},state="drained"}}': "0x100 1x200"},
    ),
    "BgpdWarnings": level("bgpd_warnings"),
    "BgpdStationDisconnected": (
        {f'bgpd_bmp_connected{{{H},station="10.0.9.9:11019"}}': "0x300"},
        {f'bgpd_bmp_connected{{{H},station="10.0.9.9:11019"}}': "0x295 1x5"},
    ),
    "BgpdMetricsLeftOut": level("bgpd_metrics_samples_left_out"),
}


def promtool_test(name: str, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    """Of promtool's unit tests: an alert is counted by its name alone, whatever its texts say."""
    asked = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {"expr": asked, "eval_time": "300m", "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}
        ],
    }


def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    assert CASES.keys() == {rule["alert"] for rule in RULES}
    assert not any("ALERTS" in rule["expr"] for rule in RULES), "each can be tried alone: all at once take a minute"
    files = []
    for rule in RULES:
        name = rule["alert"]
        alone = tmp_path / f"{name}.yml"
        alone.write_text(json.dumps({"groups": [{"name": name, "rules": [rule]}]}))
        tests = [promtool_test(name, CASES[name][not fires], fires=fires) for fires in (True, False)]
        files.append(tmp_path / f"{name}_test.yml")
        files[-1].write_text(json.dumps({"rule_files": [str(alone)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    whole = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stdout + whole.stderr


def test_cases_are_of_series_that_the_daemon_gives() -> None:
    for both in CASES.values():
        for series in (*both[0], *both[1]):
            assert series.partition("{")[0] in METRICS | {"up"}, series


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_has_a_runbook_and_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert (name in headings, anchor) == (True, name.lower())
    severity = rule["labels"]["severity"]
    assert f"## {name}\n\n{severity}. " in (ROOT / page).read_text(), "the runbook begins with the severity"
    assert set(re.findall(r"\bbgpd_\w+", rule["expr"])) <= METRICS


def test_each_runbook_is_of_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]


def test_commands_of_the_runbooks_exist() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    commands = re.findall(r"`(bgpd [^`]+)`", text) + re.findall(r"^    (bgpd [^#\n]+)", text, re.MULTILINE)
    assert len(commands) > 10
    for command in commands:
        make_parser().parse_args(shlex.split(command)[1:])
