"""What the documents say of configuration, views, requests and commands is what the code does."""

from __future__ import annotations

import itertools
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bgpd.api.server import make_app
from bgpd.cli.exit_codes import EXIT_CODES
from bgpd.cli.main import make_parser
from bgpd.cli.man import type_text as configured_type
from bgpd.config.effects import effect_of
from bgpd.config.schema import Config
from bgpd.daemon_metrics import build_registry
from bgpd.journal.journal import Journal
from bgpd.listings import DaemonBackend
from bgpd.log import EventRing
from bgpd.model import views
from bgpd.model.service import BackendView, ServiceView
from bgpd.model.views.queries import PageQuery, PastQuery, PastTableQuery, ViewQuery

DOCS = Path(__file__).parent.parent / "docs"
VIEWS = [
    value
    for module in pkgutil.iter_modules(views.__path__, f"{views.__name__}.")
    for value in vars(pkgutil.resolve_name(module.name)).values()
    if getattr(value, "__module__", "") == module.name
]
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
    "TcpAoKey": ("neighbor", "tcp_ao"),
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
    sections = {
        "kernel",
        "addresses",
        "bgp",
        "static",
        "mqtt",
        "api",
        "health",
        "services",
        "match",
        "set",
        "action",
        "rules",
    }
    assert keys - documented - sections == set()


def kinds_of_sections() -> Iterator[tuple[str, dict[str, Any]]]:
    """Title of a section of docs/configuration.md, as the docstring of its struct begins, and the struct's schema."""
    _, components = msgspec.json.schema_components([Config])
    for name, definition in components.items():
        title = name.removesuffix("Config")
        yield (title if title in SECTION_OF_TITLE else definition["description"].partition(":")[0]), definition


def documented_keys(title: str) -> dict[str, tuple[str, str]]:
    """Type and default of each key that a section of docs/configuration.md has a row for."""
    text = (DOCS / "configuration.md").read_text()
    section = re.search(rf"^## {re.escape(title)}(:.*)?$(.*?)(^## |\Z)", text, re.MULTILINE | re.DOTALL)
    row = r"^\| `(\w+)` \| (.*?) \| *(.*?) *\| (?:no-op|refresh|reset|restart) \|"
    rows = re.findall(row, section[2] if section else "", re.MULTILINE)
    return {key: (kind, default) for key, kind, default in rows}


@pytest.mark.parametrize(("title", "definition"), list(kinds_of_sections()))
def test_type_and_default_of_each_key_are_documented_as_they_are(title: str, definition: dict[str, Any]) -> None:
    _, components = msgspec.json.schema_components([Config])
    documented = documented_keys(title)
    assert not documented or documented.keys() == definition["properties"].keys(), title
    for key, (kind, default) in documented.items():
        found = definition["properties"][key]
        expected = configured_type(found, components).replace("whole number", "integer")
        assert kind.startswith(expected.replace("true or false", "boolean")), f"{title} {key}"
        if default.startswith("`"):
            value = tomllib.loads(f"value = {default.strip('`')}")["value"]
            wanted = msgspec.to_builtins(found["default"])
            wanted = {one: wanted[one] for one in value} if isinstance(value, dict) else wanted
            assert value == (list(wanted) if isinstance(wanted, tuple) else wanted), f"{title} {key}"
        elif default == "required":
            assert key in definition["required"], f"{title} {key}"
        else:
            assert found["default"] in (None, ()), f"{title} {key}"
            assert default, f"{title} {key}"


@pytest.mark.parametrize("view", VIEWS)
def test_view_document_has_every_field_of_each_view(view: type[msgspec.Struct]) -> None:
    text = (DOCS / "json-views.md").read_text()
    section = re.search(rf"^## {view.__name__}$(.*?)(^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{view.__name__} is not in docs/json-views.md"
    for field in view.__struct_fields__:
        assert f"| `{field}` |" in section[1], f"{view.__name__}.{field} is not in docs/json-views.md"


@pytest.mark.parametrize("view", VIEWS)
def test_view_document_explains_what_the_docstring_explains(view: type[msgspec.Struct]) -> None:
    """Above the table, or in the row of the field."""
    text = (DOCS / "json-views.md").read_text()
    section = re.search(rf"^## {view.__name__}$(.*?)(^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    above = section[1].partition("| field |")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| ?(.*?) ?\|$", section[1], re.MULTILINE))
    told = [field for field in view.__struct_fields__ if f"`{field}`" in str(view.__doc__)]
    assert [field for field in told if f"`{field}`" not in above and not rows.get(field)] == []


def type_text(schema: dict[str, Any]) -> str:
    """A JSON Schema as docs/json-views.md writes a type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(sorted(map(type_text, schema["anyOf"]), key=lambda text: text == "null"))
    kinds = schema.get("type")
    match kinds:
        case None:
            return "any"
        case "array":
            return f"list of {type_text(schema.get('items', {}))}"
        case "object":
            return f"object: name to {type_text(schema['additionalProperties'])}"
        case "string":
            return "text"
        case list():
            return " or ".join("text" if kind == "string" else kind for kind in kinds)
    return str(kinds)


@pytest.mark.parametrize("view", VIEWS)
def test_view_document_has_the_type_of_each_field_and_whether_it_may_be_left_out(view: type[msgspec.Struct]) -> None:
    text = (DOCS / "json-views.md").read_text()
    section = re.search(rf"^## {view.__name__}$(.*?)(^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    _, components = msgspec.json.schema_components([view])
    schema = components[view.__name__]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section[1], re.MULTILINE))
    for field, found in schema["properties"].items():
        kind, _, rest = (part.strip() for part in documented[field].partition("|"))
        assert kind == type_text(found), f"{view.__name__}.{field}"
        queries = (ViewQuery, PageQuery, PastQuery, PastTableQuery)
        may_be_left_out = view in queries and field not in schema.get("required", ())
        assert rest.startswith("optional") is may_be_left_out, f"{view.__name__}.{field}"
    assert documented.keys() == schema["properties"].keys(), "fields that no view has"
    assert not view.__struct_config__.omit_defaults, "an answer has all its fields"


def backend() -> DaemonBackend:
    asked = {
        name: lambda: None
        for name in (
            "config",
            "health",
            "drain",
            "past",
            "upgrade",
            "metrics",
            "reload",
            "confirm",
            "would_be",
            "rules",
            "started",
            "walks",
        )
    }
    journal = Journal(None, max_bytes=0, events=EventRing())
    return DaemonBackend(SimpleNamespace(), events=EventRing(), journal=journal, **asked)  # type: ignore[arg-type]


def served() -> set[tuple[str, str]]:
    """Method and path of each request that the daemon's server answers, names of parts in capitals."""
    found = set()
    for route in make_app(backend()).routes:
        method, path = route.methods[0], route.path
        if path == "/v1/{kind}":
            found |= {(method, f"/v1/{name}") for name in backend().listings}
        elif path == "/v1/{kind}/{id}":
            found |= {(method, f"/v1/{name}") for name in ("workloads/ID", "services/NAME")}
        else:
            found.add(
                (method, path.replace("{address}", "ADDRESS").replace("{kind}", "NAME").replace("{name}", "NAME"))
            )
    return found


def test_documented_requests_are_those_that_the_server_answers() -> None:
    """`PUT`, `GET`, `DELETE /v1/workloads/ID`, `/v1/services/NAME` stands for six."""
    text = (DOCS / "json-views.md").read_text()
    table = text[text.index("| request | answer |") :].partition("\n\n")[0]
    documented = set()
    for line in table.splitlines()[2:]:
        cell = line.split("|")[1]
        methods = re.findall(r"\b(GET|PUT|POST|DELETE)\b", cell)
        paths = [path.partition("?")[0] for path in re.findall(r"(/[\w/.-]+)", cell)]
        documented |= {(method, path) for method in methods for path in paths}
    assert documented == served()


def test_commands_that_the_readme_says_take_json_take_it() -> None:
    text = (DOCS.parent / "README.md").read_text()
    table = text[text.index("| to see | command |") :].partition("\n\n")[0]
    commands = [f"bgpd {name}" if "bgpd" not in name else name for name in re.findall(r"`([^`]+)`", table)]
    for command in commands:
        words = command.removeprefix("bgpd ").split()
        words = ["show", *words] if words[0] in backend().listings else words
        assert make_parser().parse_args([*words, "--json"]).json, command
    assert "All take `--json`" in text


def test_exit_codes_are_documented_as_they_are() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_parameters_of_a_listing_are_options_of_show() -> None:
    options = {
        word for kind in (*backend().listings, "events") for word in make_parser().parse_args(["show", kind]).__dict__
    }
    assert set(ViewQuery.__struct_fields__) - options == set()


def described_metrics() -> list[str]:
    """Rows of the table of docs/metrics.md, as the daemon's registry has the metrics."""
    nothing: Any = SimpleNamespace(wall=None, cpu=None, speaker=SimpleNamespace(bfd=SimpleNamespace(views=None)))
    asked = ("selector", "neighbors", "health", "drain", "shortage", "repairs", "exports")
    registry = build_registry(nothing, **dict.fromkeys(asked, nothing))
    return [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |"
        for metric in registry.metrics
    ]


def test_metrics_document_has_each_metric_as_it_is() -> None:
    text = (DOCS / "metrics.md").read_text()
    table = text[text.index("| metric |") :].partition("\n\n")[0].splitlines()[2:]
    assert table == described_metrics()


def test_metrics_have_names_by_the_conventions() -> None:
    """Base units, "_total" of counters only, and no name that OpenMetrics, which cuts "_total" off, has twice."""
    rows = [re.findall(r"`(\w+)` \| (\w+)", row)[0] for row in described_metrics()]
    for name, kind in rows:
        assert name.startswith("bgpd_"), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert not re.search(
            r"_(ms|us|minutes|hours|kib|mib|percent|since|until)(_|$)", name.removesuffix("_total")
        ) or (name.endswith("_timestamp_seconds")), name
    bases = [name.removesuffix("_total") for name, _ in rows]
    assert len(bases) == len(set(bases))


@pytest.mark.parametrize("page", [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda page: page.stem)
def test_rows_have_the_cells_of_their_table(page: Path) -> None:
    """A row of another table shows no cell beyond those that this one has."""
    wanted = 0
    for line in page.read_text().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line.rstrip())) if line.startswith("|") else 0
        wanted = cells and (wanted or cells)
        assert cells == wanted, line


@pytest.mark.parametrize("page", [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda page: page.stem)
def test_page_has_one_title_and_no_level_of_headings_is_left_out(page: Path) -> None:
    """The table of contents is made of them."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels.count(1) == 1
    assert [after for before, after in itertools.pairwise(levels) if after > before + 1] == []
