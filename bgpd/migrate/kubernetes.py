"""Objects of Kubernetes as `kubectl get -o yaml`, `-o json` and calicoctl print them, and what they share: which node
is meant, labels and selectors, secrets, Go's durations.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.reading import display_name, read_text
from bgpd.migrate.yaml_documents import Mapping, read_documents


class KubernetesObject(msgspec.Struct):
    """One object: its kind, name, the whole of it and its spec."""

    kind: str
    name: str
    body: Mapping
    spec: Mapping
    place: Place

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return {key: str(value) for key, value in self.body.mapping("metadata").mapping("labels").items()}

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""
        return {key: str(value) for key, value in self.body.mapping("metadata").mapping("annotations").items()}


def read_objects(files: Sequence[str]) -> list[KubernetesObject]:
    """All objects of the files, those of lists too. Raises: ImportFailed."""
    found: list[KubernetesObject] = []
    for file in files:
        for document in read_documents(read_text(file), display_name(file)):
            found += _objects(document, "", file)
    return found


def _objects(body: Mapping, kind_of_list: str, file: str) -> list[KubernetesObject]:
    kind = body.text("kind") or kind_of_list
    if not kind:
        raise ImportFailed(body.place, "an object without a kind", "give the output of kubectl get -o yaml")
    if kind.endswith("List") and "items" in body:
        return [one for item in body.mappings("items") for one in _objects(item, kind.removesuffix("List"), file)]
    return [KubernetesObject(kind, body.mapping("metadata").text("name"), body, body.mapping("spec"), body.place)]


def of_kind(objects: Sequence[KubernetesObject], kind: str) -> list[KubernetesObject]:
    """Those of a kind."""
    return [one for one in objects if one.kind == kind]


def secret_text(objects: Sequence[KubernetesObject], name: str, key: str) -> str:
    """What a Secret among the objects holds; "" if it is not among them."""
    for one in of_kind(objects, "Secret"):
        if one.name != name:
            continue
        plain = one.body.mapping("stringData").text(key)
        coded = one.body.mapping("data").text(key)
        try:
            return plain or base64.b64decode(coded, validate=True).decode().strip("\n")
        except (binascii.Error, UnicodeDecodeError):
            raise ImportFailed(one.body.mapping("data").at(key), "is no text in base64") from None
    return ""


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|ns)")
_UNITS_MS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "us": 0.001, "ns": 0.000001}


def duration_ms(text: str) -> int | None:
    """Milliseconds of "90s", "1m30s", "500ms"; None if it is no duration."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 40:
        return None
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def label_selector_matches(selector: Mapping, labels: AnyMapping[str, str]) -> bool:
    """Whether labels fit a LabelSelector (matchLabels, matchExpressions). Raises: ImportFailed."""
    for key, wanted in selector.mapping("matchLabels").items():
        if labels.get(key) != str(wanted):
            return False
    for expression in selector.mappings("matchExpressions"):
        key, values = expression.text("key"), expression.texts("values")
        match expression.text("operator"):
            case "In":
                holds = labels.get(key) in values
            case "NotIn":
                holds = labels.get(key) not in values
            case "Exists":
                holds = key in labels
            case "DoesNotExist":
                holds = key not in labels
            case operator:
                raise ImportFailed(expression.at("operator"), f'the operator "{operator}" is unknown')
        if not holds:
            return False
    return True
