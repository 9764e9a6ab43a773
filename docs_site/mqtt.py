"""The page of MQTT, made of the code: topics, and the fields of each payload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bgpd.cli.man import toml_text, type_text
from bgpd.cli.schemas import json_schema


class Topic(NamedTuple):
    """A topic below BASE, whether bgpd says it, and the name of its payload's schema ("": JSON of one event)."""

    name: str
    is_said: bool
    schema: str
    about: str


TOPICS = (
    Topic("workloads/ID", False, "workload", "a workload; an empty payload deletes it"),
    Topic("services/NAME", False, "service", "a service with its backends and checks; an empty payload deletes it"),
    Topic("sync", False, "sync", "that a snapshot is whole, and which one it is"),
    Topic("status", True, "status", "the host; the broker says that it is offline by the last will"),
    Topic("workloads/ID/state", True, "workload-report", "what became of a workload"),
    Topic("services/NAME/state", True, "", "what became of a service: `name`, `service` (a ServiceView) and `errors`"),
    Topic("neighbors/NAME", True, "neighbors", "a session: an element of `bgpd show neighbors`"),
    Topic("events", True, "", "events of neighbors, as they happen; not retained"),
)
BASE = "bgpd/v1/hosts/HOST"


def page() -> str:
    """The page."""
    lines = [
        "# MQTT",
        "",
        f"Made of the code. Topics are below `{BASE}/` (HOST: `host` of `[workload.mqtt]`), retained.",
        "Payloads are JSON; `bgpd schema NAME` prints their JSON Schema. [Orchestrator](../orchestrator.md) says",
        "how it is used; ServiceView and NeighborView are in [JSON views](../json-views.md).",
        "",
        "| topic | from | what | schema |",
        "|---|---|---|---|",
    ]
    for topic in TOPICS:
        schema = f"`{topic.schema}`" if topic.schema else ""
        lines.append(
            f"| `{topic.name}` | {'bgpd' if topic.is_said else 'the orchestrator'} | {topic.about} | {schema} |"
        )
    for name in ("workload", "service", "sync", "status", "workload-report"):
        lines += ["", f"## {name}", *_payload(json_schema(name))]
    return "\n".join(lines) + "\n"


def _payload(schema: dict[str, Any]) -> Iterator[str]:
    definitions = schema["$defs"]
    top = str(schema["$ref"]).rpartition("/")[2]
    for name in sorted(definitions, key=lambda name: (name != top, name)):
        definition = definitions[name]
        if "properties" not in definition:
            continue
        if name != top:
            yield from ("", f"**{name}**")
        yield from (
            "",
            " ".join(definition.get("description", "").split()),
            "",
            "| field | value | default | |",
            "|---|---|---|---|",
        )
        for field, one in definition["properties"].items():
            default = "required" if field in definition.get("required", ()) else f"`{toml_text(one.get('default'))}`"
            kind = _named(one, definitions) or type_text(one, definitions)
            yield f"| `{field}` | {_cell(kind)} | {default} | {_cell(one.get('description', ''))} |"


def _named(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A table of its own, by its name; "" for a plain value."""
    for one in (schema, *schema.get("anyOf", ())):
        for inner, text in ((one, "{}"), (one.get("items", {}), "list of {}")):
            name = str(inner.get("$ref", "")).rpartition("/")[2]
            if "properties" in definitions.get(name, ()):
                return text.format(name)
    return ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
