"""Metrics in Prometheus' text format."""

from __future__ import annotations

from bgpd.api.prometheus import Histogram, Registry, labels


def test_gauge_counter_and_labels_are_written_with_help_and_type() -> None:
    registry = Registry()
    registry.gauge("bgpd_routes", "Prefixes.", lambda: 3)
    registry.counter("bgpd_messages_total", "Messages\nof all.", lambda: [(labels(neighbor='le"af\\1'), 2.5)])
    assert registry.render() == (
        "# HELP bgpd_routes Prefixes.\n# TYPE bgpd_routes gauge\nbgpd_routes 3\n"
        "# HELP bgpd_messages_total Messages\\nof all.\n# TYPE bgpd_messages_total counter\n"
        'bgpd_messages_total{neighbor="le\\"af\\\\1"} 2.5\n'
    )


def test_histogram_is_cumulative_and_ends_with_infinity() -> None:
    registry = Registry()
    registry.histogram("bgpd_loop_hold_seconds", "Holds.", lambda: Histogram((0.001, 0.02), (5, 2, 1), 0.25))
    assert registry.render().splitlines()[2:] == [
        'bgpd_loop_hold_seconds_bucket{le="0.001"} 5',
        'bgpd_loop_hold_seconds_bucket{le="0.02"} 7',
        'bgpd_loop_hold_seconds_bucket{le="+Inf"} 8',
        "bgpd_loop_hold_seconds_sum 0.25",
        "bgpd_loop_hold_seconds_count 8",
    ]


def test_values_without_a_number_have_their_names() -> None:
    registry = Registry()
    values = (float("inf"), float("-inf"), float("nan"), 1e20)
    registry.gauge("bgpd_x", "X.", lambda: [(labels(i=str(i)), value) for i, value in enumerate(values)])
    assert [line.split()[1] for line in registry.render().splitlines()[2:]] == ["+Inf", "-Inf", "NaN", str(10**20)]
