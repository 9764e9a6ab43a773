"""A real Prometheus reads the daemon's metrics: each query of the dashboard and each alert rule is asked of it."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import LabError, wait_until
from tests.daemon.fabric import Fabric, Host, leaf, started, table

pytestmark = pytest.mark.netns

CONF = Path(__file__).parents[2] / "conf"
DASHBOARD: dict[str, Any] = json.loads((CONF / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRICS_AT = "127.0.0.1:9179"
PROMETHEUS_PORT = 9090


class Prometheus:
    """Scrapes the host of a fabric from inside its namespace."""

    def __init__(self, fabric: Fabric, directory: Path) -> None:
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(CONF / "alerts.yml")],
            "scrape_configs": [{"job_name": "bgpd", "static_configs": [{"targets": [METRICS_AT]}]}],
        }
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(config))
        self._namespace = fabric.host
        self.log_path = directory / "prometheus.log"
        self.process = fabric.host.popen(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
            log_path=self.log_path,
        )

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API. Raises: LabError: it gives none (yet)."""
        with self._namespace.entered():
            sock = socket.socket()
        connection = http.client.HTTPConnection("prometheus", timeout=10)
        connection.sock = sock
        try:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", PROMETHEUS_PORT))
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            raise LabError(f"Prometheus does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise LabError(f"{path} {parameters}: {response.status} {body[:500]!r}")
        return json.loads(body)["data"]

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of a query, with the dashboard's variables filled in."""
        for name, value in {"$__rate_interval": "5m", "$instance": ".*"}.items():
            query = query.replace(name, value)
        found: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return found


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    fabric.host.batch("link set lo up")
    tables = (
        leaf(1),
        table("[neighbor.bfd]", interval_ms=300),
        table("[api]", listen=METRICS_AT),
        table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1"),
    )
    with started(fabric, *tables) as host:
        host.wait_established("leaf1")
        yield host


@pytest.fixture(scope="module")
def prometheus(fabric: Fabric, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    prometheus = Prometheus(fabric, tmp_path_factory.mktemp("prometheus"))
    try:

        def scraped() -> bool:
            found = prometheus.ask("count_over_time(bgpd_neighbor_established[5m])")
            return bool(found) and float(found[0]["value"][1]) >= 3

        wait_until(scraped, 60, "three scrapes", logs=[prometheus.log_path, *host.logs])
        yield prometheus
    finally:
        prometheus.process.stop()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_each_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        samples = prometheus.ask(target["expr"])
        assert samples or target["expr"].endswith(" > 0") or "consistency_repairs" in target["expr"], target["expr"]
        labels = {name for sample in samples for name in sample["metric"]}
        assert not samples or set(_names(target.get("legendFormat", ""))) <= labels | {"vrf"}, target


def _names(legend: str) -> list[str]:
    return [part.partition("}}")[0] for part in legend.split("{{")[1:]]


def test_variables_and_annotations_of_the_dashboard_have_answers(prometheus: Prometheus) -> None:
    queries = [variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert queries == ["label_values(bgpd_info, instance)"]
    assert prometheus.get("label/instance/values", **{"match[]": "bgpd_info"}) == [METRICS_AT]
    for annotation in DASHBOARD["annotations"]["list"]:
        assert prometheus.ask(annotation["expr"]) == []


def test_rules_can_be_evaluated_and_nothing_critical_fires_on_a_healthy_host(prometheus: Prometheus) -> None:
    rules: list[dict[str, Any]] = []

    def evaluated() -> bool:
        rules[:] = prometheus.get("rules")["groups"][0]["rules"]
        return all(rule["health"] != "unknown" for rule in rules)

    wait_until(evaluated, 30, "all rules to be evaluated", logs=[prometheus.log_path])
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    assert [
        rule["name"] for rule in rules if rule["state"] == "firing" and rule["labels"]["severity"] == "critical"
    ] == []
