"""The documents name every key of the configuration and every field of the views."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.config.effects import effect_of
from bgpd.config.schema import Config
from bgpd.model import views
from bgpd.model.service import BackendView, ServiceView

DOCS = Path(__file__).parent.parent / "docs"
VIEWS = [value for value in vars(views).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
VIEWS += [ServiceView, BackendView]


def definitions(types: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Name and field names of each struct that the types hold."""
    _, components = msgspec.json.schema_components(types)
    for name, definition in components.items():
        yield name, list(definition.get("properties", ()))


@pytest.mark.parametrize(("name", "fields"), list(definitions([Config])))
def test_configuration_document_has_every_key(name: str, fields: list[str]) -> None:
    text = (DOCS / "configuration.md").read_text()
    sections = {"Config"} if name == "Config" else set()
    for field in fields:
        known = f"`{field}`" in text or re.search(rf"^## \[+(\w+\.)*{field}[\].]", text, re.MULTILINE)
        assert known or sections, f"{name}.{field} is not in docs/configuration.md"


SECTION_OF_TITLE = {
    "policy rule": ("policy",),
    "Bfd": ("neighbor", "bfd"),
    "GracefulRestart": ("neighbor", "graceful_restart"),
}


def documented_effects() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key path of docs/configuration.md, and what the document says that a change of it costs."""
    section: tuple[str, ...] = ()
    for line in (DOCS / "configuration.md").read_text().splitlines():
        if line.startswith("## "):
            title = line[3:].partition(":")[0]
            section = SECTION_OF_TITLE.get(title) or tuple(title.strip("[]").split("."))
        found = re.match(r"\| `(\w+)` \|.*\| (no-op|refresh|reset|restart) \|", line)
        if found:
            yield (*section, found[1]), found[2]


@pytest.mark.parametrize(("path", "effect"), list(documented_effects()), ids=lambda value: ".".join(value))
def test_effect_of_a_change_is_documented_as_it_is(path: tuple[str, ...], effect: str) -> None:
    assert effect == effect_of(path).value


def test_every_key_has_a_documented_effect() -> None:
    documented = {path[-1] for path, _ in documented_effects()}
    keys = {key for name, fields in definitions([Config]) if name != "Config" for key in fields}
    assert keys - documented - {"kernel", "static", "mqtt", "api", "health", "match", "set", "action", "rules"} == set()


@pytest.mark.parametrize("view", VIEWS)
def test_view_document_has_every_field_of_each_view(view: type[msgspec.Struct]) -> None:
    text = (DOCS / "json-views.md").read_text()
    section = re.search(rf"^## {view.__name__}$(.*?)(^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{view.__name__} is not in docs/json-views.md"
    for field in view.__struct_fields__:
        assert f"| `{field}` |" in section[1], f"{view.__name__}.{field} is not in docs/json-views.md"
