"""The import rule of the design: who may import whom, and which modules never see I/O. Read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bgpd"
SHARED = ("model", "config", "log", "metrics", "turns")
"""May be imported by all; "config" stands for its modules too (config_load, config_check, ...)."""
PARTS = ("speaker", "rib", "evpn", "fib", "workload", "api", "cli")
ONLY_IN = {
    "exabgp": ("bgpd.speaker.exabgp_codec",),
    "pyroute2": (),
    "aiomqtt": ("bgpd.workload.mqtt_source",),
    "aiohttp": ("bgpd.api",),
    "rich": ("bgpd.cli",),
}
SANS_IO = (
    "bgpd.model",
    "bgpd.rib",
    "bgpd.config_diff",
    "bgpd.config_lines",
    "bgpd.config_shape",
    "bgpd.config_words",
    "bgpd.metrics",
    "bgpd.speaker.session",
    "bgpd.speaker.collision",
    "bgpd.speaker.capabilities",
    "bgpd.speaker.notification",
    "bgpd.speaker.update_decoder",
    "bgpd.speaker.update_encoder",
    "bgpd.speaker.attribute_decoder",
    "bgpd.evpn",
    "bgpd.fib.route_messages",
    "bgpd.fib.nexthop_messages",
    "bgpd.fib.reconciler",
    "bgpd.cli.text",
    "bgpd.cli.tables",
    "bgpd.cli.render_explain",
)
IO_MODULES = {"asyncio", "socket", "time", "selectors", "subprocess", "threading"}
MAY_ALL_THE_SAME = {
    ("bgpd.model.prefix", "socket"),
    ("bgpd.fib.route_messages", "socket"),
    ("bgpd.fib.nexthop_messages", "socket"),
    ("bgpd.cli.tables", "time"),
}
"""inet_ntop; AF_ constants; strftime of a time that is passed in."""

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it; "from a import b" gives "a.b"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def is_shared(name: str) -> bool:
    part = name.split(".")[1] if "." in name else ""
    return part in SHARED or part.startswith(("config_", "__version__"))


@pytest.mark.parametrize("module", MODULES)
def test_parts_import_no_sibling(module: str) -> None:
    part = [*module.split("."), ""][1]
    if part not in PARTS and not is_shared(module):
        return
    for name in imports_of(MODULES[module]):
        if within(name, "bgpd"):
            own = within(name, f"bgpd.{part}") and part in PARTS
            assert own or is_shared(name), f"{module} imports {name}"


def test_shared_modules_import_no_part() -> None:
    for module in filter(is_shared, MODULES):
        wrong = [
            name for name in imports_of(MODULES[module]) if name.split(".")[:1] == ["bgpd"] and not is_shared(name)
        ]
        assert wrong == [], module


def test_model_imports_only_itself() -> None:
    for module in MODULES:
        if within(module, "bgpd.model"):
            wrong = [name for name in imports_of(MODULES[module]) if within(name, "bgpd") and "bgpd.model" not in name]
            assert wrong == [], module


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stops_at_the_edge_that_uses_it(library: str) -> None:
    for module, path in MODULES.items():
        if any(within(name, library) for name in imports_of(path)):
            assert any(within(module, place) for place in ONLY_IN[library]), f"{module} imports {library}"


@pytest.mark.parametrize("module", [name for name in MODULES if any(within(name, place) for place in SANS_IO)])
def test_sans_io_module_sees_no_io_and_no_clock(module: str) -> None:
    used = {name.split(".")[0] for name in imports_of(MODULES[module])} & IO_MODULES
    assert {name for name in used if (module, name) not in MAY_ALL_THE_SAME} == set()
