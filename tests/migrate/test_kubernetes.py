"""What the importers of Kubernetes' objects share: lists, secrets, durations, selectors."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.kubernetes import duration_ms, label_selector_matches, of_kind, read_objects, secret_text
from bgpd.migrate.yaml_documents import Mapping, read_documents
from tests.migrate.converting import written


def mapping(text: str) -> Mapping:
    (found,) = read_documents(text, "given.yaml")
    return found


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 90_000),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("500ms", 500),
        ("1.5s", 1500),
        ("1500us", 2),
        ("2000000ns", 2),
        ("", None),
        ("90", None),
        ("1m 30s", None),
        ("s", None),
        ("-1s", None),
        ("1" * 40 + "s", None),
    ],
)
def test_durations(text: str, milliseconds: int | None) -> None:
    assert duration_ms(text) == milliseconds


LABELS = {"rack": "3", "zone": "west"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("{}", True),
        ("matchLabels: {rack: '3'}", True),
        ("matchLabels: {rack: 3}", True),
        ("matchLabels: {rack: '4'}", False),
        ("matchLabels: {rack: '3', row: '1'}", False),
        ("matchExpressions: [{key: rack, operator: In, values: ['2', '3']}]", True),
        ("matchExpressions: [{key: rack, operator: In, values: ['2']}]", False),
        ("matchExpressions: [{key: row, operator: In, values: ['2']}]", False),
        ("matchExpressions: [{key: rack, operator: NotIn, values: ['2']}]", True),
        ("matchExpressions: [{key: rack, operator: NotIn, values: ['3']}]", False),
        ("matchExpressions: [{key: row, operator: NotIn, values: ['3']}]", True),
        ("matchExpressions: [{key: rack, operator: Exists}]", True),
        ("matchExpressions: [{key: row, operator: Exists}]", False),
        ("matchExpressions: [{key: rack, operator: DoesNotExist}]", False),
        ("matchExpressions: [{key: row, operator: DoesNotExist}]", True),
        ("matchExpressions: [{key: rack, operator: Exists}, {key: row, operator: Exists}]", False),
        ("{matchLabels: {rack: '4'}, matchExpressions: [{key: rack, operator: Exists}]}", False),
    ],
)
def test_selectors_of_labels(selector: str, fits: bool) -> None:
    assert label_selector_matches(mapping(selector), LABELS) == fits


def test_an_operator_that_no_selector_has() -> None:
    with pytest.raises(ImportFailed, match=r'given\.yaml:2: .*"Like" is unknown'):
        label_selector_matches(mapping("matchExpressions:\n- {key: rack, operator: Like}"), LABELS)


def test_lists_of_one_kind_need_not_say_it_of_each(tmp_path: Path) -> None:
    text = (
        "kind: List\nitems:\n- {kind: Node, metadata: {name: a}}\n---\n"
        "kind: SecretList\nitems: [{metadata: {name: b}}, {metadata: {name: c}}]\n---\nkind: HostList\n"
    )
    objects = read_objects([str(written(tmp_path, text, "given.yaml"))])
    assert [(one.kind, one.name) for one in objects] == [
        ("Node", "a"),
        ("Secret", "b"),
        ("Secret", "c"),
        ("HostList", ""),
    ]
    assert [one.name for one in of_kind(objects, "Secret")] == ["b", "c"]


def test_an_object_without_a_kind(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"given\.yaml:1: an object without a kind"):
        read_objects([str(written(tmp_path, "metadata: {name: a}\n", "given.yaml"))])


def test_secrets(tmp_path: Path) -> None:
    coded = base64.b64encode(b"of data\n").decode()
    text = (
        f"{{kind: Secret, metadata: {{name: a}}, data: {{password: {coded}, bad: '***', binary: /w==}}}}\n---\n"
        f"{{kind: Secret, metadata: {{name: b}}, stringData: {{password: plain}}, data: {{password: {coded}}}}}\n"
    )
    objects = read_objects([str(written(tmp_path, text, "given.yaml"))])
    assert secret_text(objects, "a", "password") == "of data"
    assert secret_text(objects, "b", "password") == "plain"
    assert secret_text(objects, "a", "other") == ""
    assert secret_text(objects, "c", "password") == ""
    for key in ("bad", "binary"):
        with pytest.raises(ImportFailed, match=r"given\.yaml:1: .*is no text in base64"):
            secret_text(objects, "a", key)


def test_labels_and_annotations_are_texts(tmp_path: Path) -> None:
    text = "{kind: Node, metadata: {name: a, labels: {rack: 3}, annotations: {asn: 65001}}}\n"
    (node,) = read_objects([str(written(tmp_path, text, "given.yaml"))])
    assert (node.labels, node.annotations) == ({"rack": "3"}, {"asn": "65001"})
