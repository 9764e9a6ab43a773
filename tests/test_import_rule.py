"""The import rule of the design: who may import whom, and which modules never see I/O. Read from the syntax trees."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bgpd"
FLOORS = (
    ("model",),
    ("runtime", "config", "log"),
    ("kernel", "message", "bfd", "handover"),
    ("speaker", "rib", "fib", "evpn", "workload", "journal"),
    ("migrate", "history", "demo"),
    ("api", "cli", "export"),
)
"""From the ground up. A module imports its own package and lower floors: never a sibling's, never a higher floor. The
files of `bgpd/` itself stand above and may import all of these."""
ABOVE_ALL = ("simulation",)
"""What runs the daemon's parts in its own world, and is imported by nothing of bgpd."""
ALLOWED = {("log", "config"), ("log", "runtime")}
"""Siblings that may be imported all the same: logging is set up from its configuration, and writes what was
told by `bgpd/runtime/events.py`."""
ONLY_IN = {
    "exabgp": ("bgpd.message.exabgp_codec",),
    "pyroute2": ("bgpd.kernel.rtnl",),
    "netaddr": ("bgpd.config.prefix_sets",),
    "aiomqtt": ("bgpd.workload.feed.mqtt", "bgpd.workload.feed.mqtt_client"),
    "aiohttp": (),
    "structlog": (),
    "h11": ("bgpd.api.http_connection",),
    "rich": ("bgpd.cli.top",),
    "textual": ("bgpd.cli.top",),
    "yaml": ("bgpd.migrate.yaml_documents",),
}
SANS_IO = (
    "bgpd.model",
    "bgpd.rib",
    "bgpd.evpn",
    "bgpd.message",
    "bgpd.bfd.control",
    "bgpd.bfd.packet",
    "bgpd.bfd.session",
    "bgpd.config.effects",
    "bgpd.config.toml_lines",
    "bgpd.config.toml_errors",
    "bgpd.config.prefix_sets",
    "bgpd.config.shape",
    "bgpd.config.words",
    "bgpd.api.prometheus",
    "bgpd.speaker.session",
    "bgpd.speaker.collision",
    "bgpd.kernel.route_messages",
    "bgpd.kernel.nexthop_messages",
    "bgpd.fib.nexthop_objects",
    "bgpd.fib.nexthop_ids",
    "bgpd.fib.nexthop_values",
    "bgpd.fib.group_room",
    "bgpd.fib.group_sources",
    "bgpd.fib.routes",
    "bgpd.fib.pending",
    "bgpd.fib.plan",
    "bgpd.fib.guard",
    "bgpd.fib.ownership",
    "bgpd.migrate.draft",
    "bgpd.migrate.filters",
    "bgpd.migrate.frr_text",
    "bgpd.migrate.frr_policy",
    "bgpd.migrate.frr_peers",
    "bgpd.migrate.toml_writer",
    "bgpd.migrate.yaml_documents",
    "bgpd.cli.tables",
    "bgpd.cli.render",
)
IO_MODULES = {"asyncio", "socket", "time", "selectors", "subprocess", "threading"}
MAY_ALL_THE_SAME = {
    ("bgpd.model.prefix", "socket"),
    ("bgpd.kernel.route_messages", "socket"),
    ("bgpd.kernel.nexthop_messages", "socket"),
    ("bgpd.cli.tables", "time"),
}
"""inet_ntop; AF_ constants; strftime of a time that is passed in."""

OF_BFD_PROCESS = {
    *(
        "__future__",
        "array",
        "collections",
        "contextlib",
        "enum",
        "errno",
        "gc",
        "heapq",
        "marshal",
        "os",
        "select",
        "signal",
    ),
    *("socket", "stat", "struct", "sys", "time"),
}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Dotted names that a file imports, wherever in it; "from a import b" gives "a.b"."""
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def part_of(name: str) -> str:
    return [*name.split("."), ""][1]


def floor_of(name: str) -> int:
    if part_of(name) in ABOVE_ALL:
        return len(FLOORS) + 1
    return next((floor for floor, parts in enumerate(FLOORS) if part_of(name) in parts), len(FLOORS))


@pytest.mark.parametrize("module", [name for name in MODULES if floor_of(name) < len(FLOORS)])
def test_module_imports_only_its_own_package_and_lower_floors(module: str) -> None:
    own = part_of(module)
    for name in imports_of(MODULES[module]):
        if within(name, "bgpd") and name != "bgpd.__version__":
            allowed = part_of(name) == own or (own, part_of(name)) in ALLOWED
            assert allowed or floor_of(name) < floor_of(module), f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) not in ABOVE_ALL])
def test_nothing_of_the_daemon_imports_what_stands_above_it(module: str) -> None:
    assert [
        name for name in imports_of(MODULES[module]) if name.startswith("bgpd.") and part_of(name) in ABOVE_ALL
    ] == []


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "bgpd.bfd")])
def test_bfd_process_imports_little(module: str) -> None:
    """What it imports it has in memory, and may have to wait for."""
    own = {name for name in imports_of(MODULES[module]) if within(name, "bgpd")}
    assert all(within(name, "bgpd.bfd") for name in own)
    assert {name.split(".")[0] for name in imports_of(MODULES[module])} - {"bgpd"} <= OF_BFD_PROCESS


@pytest.mark.parametrize("module", MODULES)
def test_package_is_on_a_floor(module: str) -> None:
    path = MODULES[module]
    assert floor_of(module) != len(FLOORS) or path.parent == PACKAGE, f"{module} is on no floor"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stops_at_the_edge_that_uses_it(library: str) -> None:
    for module, path in MODULES.items():
        if any(within(name, library) for name in imports_of(path)):
            assert any(within(module, place) for place in ONLY_IN[library]), f"{module} imports {library}"


@pytest.mark.parametrize("module", [name for name in MODULES if any(within(name, place) for place in SANS_IO)])
def test_sans_io_module_sees_no_io_and_no_clock(module: str) -> None:
    used = {name.split(".")[0] for name in imports_of(MODULES[module])} & IO_MODULES
    assert {name for name in used if (module, name) not in MAY_ALL_THE_SAME} == set()


def test_what_only_some_configurations_need_is_not_loaded_with_the_daemon() -> None:
    """docs/decisions/0005: VRF devices, prefixes that are compared, the broker, the live screen, another's YAML.
    Nor is the simulation, or a library of logs (0045)."""
    not_loaded = {"pyroute2", "netaddr", "aiomqtt", "textual", "rich", "structlog", "yaml", "bgpd.simulation"}
    code = (
        "import sys, bgpd.daemon\n"
        "from bgpd.kernel import nexthop_messages, route_messages\n"
        f"print(sorted({not_loaded} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
