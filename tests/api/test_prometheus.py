"""Metrics in Prometheus' text format, as prometheus-client's parser reads it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bgpd.api.prometheus import LEFT_OUT, MAX_SAMPLES, Histogram, Registry, Samples
from bgpd.api.stream import text_slices


def lines(registry: Registry) -> list[str]:
    """What it gives, without what each registry has."""
    text = "".join(registry.render())
    return [line for line in text.splitlines() if LEFT_OUT not in line]


def test_gauge_counter_and_labels_are_written_with_help_and_type() -> None:
    registry = Registry()
    registry.gauge("bgpd_routes", "Prefixes.", lambda: 3)
    registry.counter("bgpd_messages_total", "Messages\nof all.", lambda: [(('le"af\\1',), 2.5)], labels=("neighbor",))
    assert lines(registry) == [
        "# HELP bgpd_routes Prefixes.",
        "# TYPE bgpd_routes gauge",
        "bgpd_routes 3",
        "# HELP bgpd_messages_total Messages\\nof all.",
        "# TYPE bgpd_messages_total counter",
        'bgpd_messages_total{neighbor="le\\"af\\\\1"} 2.5',
    ]


def test_histogram_is_cumulative_and_ends_with_infinity() -> None:
    registry = Registry()
    registry.histogram("bgpd_loop_hold_seconds", "Holds.", lambda: Histogram((0.001, 0.02), (5, 2, 1), 0.25))
    assert lines(registry)[2:] == [
        'bgpd_loop_hold_seconds_bucket{le="0.001"} 5',
        'bgpd_loop_hold_seconds_bucket{le="0.02"} 7',
        'bgpd_loop_hold_seconds_bucket{le="+Inf"} 8',
        "bgpd_loop_hold_seconds_sum 0.25",
        "bgpd_loop_hold_seconds_count 8",
    ]


def test_values_without_a_number_have_their_names() -> None:
    registry = Registry()
    values = (float("inf"), float("-inf"), float("nan"), 1e20)
    registry.gauge("bgpd_x", "X.", lambda: [((str(i),), value) for i, value in enumerate(values)], labels=("i",))
    assert [line.split()[1] for line in lines(registry)[2:]] == ["+Inf", "-Inf", "NaN", str(10**20)]


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@given(
    help=names,
    samples=st.dictionaries(
        st.tuples(names, names), st.floats(allow_nan=False) | st.integers(min_value=0, max_value=2**53), max_size=5
    ),
    counts=st.lists(st.integers(min_value=0, max_value=10**9), min_size=3, max_size=3),
)
def test_what_is_written_is_what_the_client_library_reads(
    help: str, samples: dict[tuple[str, str], float], counts: list[int]
) -> None:
    registry = Registry()
    registry.counter("bgpd_x_total", help, lambda: samples.items(), labels=("neighbor", "family"))
    registry.histogram("bgpd_hold_seconds", "Holds.", lambda: Histogram((0.001, 0.5), counts, 1.5))
    found = {family.name: family for family in text_string_to_metric_families("".join(registry.render()))}
    counter, histogram = found["bgpd_x"], found["bgpd_hold_seconds"]
    assert (counter.type, histogram.type) == ("counter", "histogram")
    read = {(sample.labels["neighbor"], sample.labels["family"]): sample.value for sample in counter.samples}
    assert read == {labels: float(value) for labels, value in samples.items()}
    assert [sample.value for sample in histogram.samples] == [
        counts[0], sum(counts[:2]), sum(counts), 1.5, sum(counts)
    ]  # fmt: skip


def test_samples_beyond_the_bound_are_left_out_and_counted() -> None:
    registry = Registry()
    count = MAX_SAMPLES + 7
    registry.gauge("bgpd_x", "X.", lambda: (((str(i),), 1) for i in range(count)), labels=("neighbor",))

    def given() -> tuple[int, str]:
        text = "".join(registry.render()).splitlines()
        return sum(line.startswith("bgpd_x{") for line in text), text[-1]

    assert given() == (MAX_SAMPLES, f"{LEFT_OUT} 7")
    count = 3
    assert given() == (3, f"{LEFT_OUT} 0")


def test_what_several_metrics_read_is_read_once_for_each_answer() -> None:
    reads = []

    def read() -> list[str]:
        reads.append(len(reads))
        return ["leaf1"]

    registry = Registry()
    shared = registry.once(read)

    def each(number: int) -> Callable[[], Samples]:
        return lambda: [((name,), number) for name in shared()]

    registry.gauge("bgpd_x", "X.", each(1), labels=("neighbor",))
    registry.gauge("bgpd_y", "Y.", each(2), labels=("neighbor",))
    for expected in (1, 2):
        list(registry.render())
        assert len(reads) == expected


def test_text_in_slices_is_the_same_text() -> None:
    parts = [f"{i}\n" for i in range(100)]
    cut = list(text_slices(iter(parts), slice_s=0.0))
    assert "".join(cut) == "".join(parts)
    assert len(cut) == 101
    assert list(text_slices(iter(parts), slice_s=60.0)) == ["".join(parts)]
