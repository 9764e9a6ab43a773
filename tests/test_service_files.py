"""What is installed beside the program: unit, kernel settings, and the commented configuration."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.config.load import parse_config
from bgpd.config.schema import BfdProcessConfig, Config, FibConfig
from bgpd.config.schema_policies import MatchConfig, SetConfig
from bgpd.config.schema_sessions import ListenConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd/bgpd.service"
DRAIN_UNIT = ROOT / "systemd/bgpd-drain.service"
EXAMPLE = ROOT / "conf/bgpd.toml"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_exposure_is_at_most_2() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_unit_has_no_key_that_systemd_does_not_know(tmp_path: Path) -> None:
    unit = tmp_path / "bgpd.service"
    unit.write_text(re.sub(r"/opt/bgpd/bin/bgpd", "/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "bgpd.service" in line]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_drain_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = tmp_path / "bgpd-drain.service"
    unit.write_text(re.sub(r"/opt/bgpd/bin/bgpd", "/bin/true", DRAIN_UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "bgpd-drain.service" in line]


def test_drain_unit_ends_before_bgpd_and_lets_it_wait_as_long_as_it_may() -> None:
    text = DRAIN_UNIT.read_text()
    assert re.search(r"^After=.*\bbgpd\.service\b", text, re.MULTILINE), "what is started later is stopped earlier"
    wait, stop = (int(re.search(pattern, text)[1]) for pattern in (r"--timeout (\d+)s", r"TimeoutStopSec=(\d+)"))  # type: ignore[index]
    assert wait < stop
    assert "bgpd-drain.service" in UNIT.read_text(), "started with bgpd"


def test_unit_has_three_capabilities_and_a_watchdog() -> None:
    text = UNIT.read_text()
    capabilities = "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE"
    assert f"CapabilityBoundingSet={capabilities}\n" in text
    assert f"AmbientCapabilities={capabilities}\n" in text
    for line in ("TasksMax=512", "LimitCORE=0", "SocketBindDeny=udp:1-65535", "SocketBindAllow=tcp:179"):
        assert f"\n{line}\n" in text
    for line in ("Type=notify", "User=bgpd", "Restart=on-failure", "RuntimeDirectory=bgpd", "StateDirectory=bgpd"):
        assert f"\n{line}\n" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)


def test_unit_bounds_memory_and_does_not_outlive_everything_else() -> None:
    unit = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"(Memory|OOM)\w+=", line))
    high, most = (int(unit[name].removesuffix("G")) for name in ("MemoryHigh", "MemoryMax"))
    assert 1 <= high < most
    assert -900 < int(unit["OOMScoreAdjust"]) < 0
    assert unit["OOMPolicy"] == "continue", "systemd stops a service of which the kernel has ended any process"


def test_commented_configuration_is_good_as_it_is() -> None:
    _, warnings = parse_config(EXAMPLE.read_text(), str(EXAMPLE))
    assert warnings == []


def test_commented_configuration_is_good_with_its_examples(tmp_path: Path) -> None:
    key = tmp_path / "leaf1.key"
    key.write_text("secret\n")
    text = re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"/etc/bgpd/leaf[\d.]+key", str(key), text)
    config, _ = parse_config(text, "bgpd.toml")
    assert config.policy["vm-routers"].rules[1].set.local_pref == 200
    assert len(config.neighbor) == 2
    assert config.listen
    assert config.workload.kernel
    assert config.workload.static


def test_commented_configuration_has_every_key() -> None:
    text = EXAMPLE.read_text()
    data = tomllib.loads(re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE))
    in_a_comment = (MatchConfig, SetConfig)
    told_elsewhere = {
        kind: {field.encode_name for field in msgspec.structs.fields(base)}
        for kind, base in ((ListenConfig, SessionConfig), (GuestConfig, ListenConfig))
    }
    lacking = []
    written: dict[type[msgspec.Struct], list[Any]] = {}
    for _place, kind, tables in sections("", Config, [data]):
        written.setdefault(kind, []).extend(tables)
    for place, kind, _tables in sections("", Config, [data]):
        for field in msgspec.structs.fields(kind):
            name = field.encode_name
            known = (
                re.search(rf"\b{name}\b", text) if kind in in_a_comment else any(name in one for one in written[kind])
            )
            if not known and name not in told_elsewhere.get(kind, ()):
                lacking.append(f"{place}.{name}".lstrip("."))
    assert lacking == []


def sections(place: str, kind: Any, tables: list[Any]) -> Iterator[tuple[str, type[msgspec.Struct], list[Any]]]:
    """Each table of the schema, with those of the file that are of its kind."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield place, kind, tables
        hints = typing.get_type_hints(kind)
        for field in msgspec.structs.fields(kind):
            name = field.encode_name
            yield from sections(
                f"{place}.{name}".lstrip("."), hints[field.name], [t[name] for t in tables if name in t]
            )
        return
    arguments = [one for one in typing.get_args(kind) if one not in (type(None), ..., str)]
    inner = [value for one in tables for value in (one.values() if typing.get_origin(kind) is dict else [one])]
    if typing.get_origin(kind) is tuple:
        inner = [value for one in tables for value in one]
    for argument in arguments:
        yield from sections(place, argument, inner)


def test_shipped_configuration_and_the_readmes_example_lose_no_route_at_a_restart() -> None:
    readme = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for text in (EXAMPLE.read_text(), *readme):
        config, warnings = parse_config(text, "bgpd.toml")
        assert warnings == []
        assert config.neighbor
        assert all(neighbor.graceful_restart.restarts for neighbor in config.neighbor)


EXAMPLES = {
    "neighbor.address",
    "neighbor.interface",
    "neighbor.max_prefixes",
    "neighbor.max_attribute_bytes",
    "neighbor.password_file",
    "listen.export",
    "policy.rules.action",
    "policy.rules.match.prefix",
    "policy.rules.match.as_path",
    "policy.rules.match.community",
    "policy.rules.set.local_pref",
    "aggregate.summary_only",
    "aggregate.blackhole",
    "vrf.vni",
    "vrf.uplinks",
    "workload.kernel.interfaces",
    "workload.addresses.interfaces",
    "workload.static.id",
    "listen.graceful_restart.mode",
    "workload.bgp.graceful_restart.mode",
}
"""Keys of conf/bgpd.toml that have an example in place of their default, since that says nothing of what they take; the
default mode of a graceful restart is another one for those that dial here."""


def test_values_that_are_written_are_the_defaults() -> None:
    """Also of what is commented out: whoever takes the # away has what was in force without the line."""
    data = tomllib.loads(re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    others = set()
    for place, kind, tables in sections("", Config, [data]):
        for field in msgspec.structs.fields(kind):
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            values = [table[field.encode_name] for table in tables if field.encode_name in table]
            for value in values:
                is_table = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
                written = tuple(value) if isinstance(value, list) else value
                if not field.required and not is_table and written != default:
                    others.add(f"{place}.{field.encode_name}")
    assert others == EXAMPLES


def test_route_protocol_name_is_that_of_the_configuration() -> None:
    text = (ROOT / "conf/rt_protos.d/bgpd.conf").read_text()
    assert f"\n{FibConfig().protocol}\tbgpd\n" in text


def test_networkd_leaves_foreign_routes_and_rules_alone() -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "conf/networkd/90-bgpd.conf")
    network = dict(parser["Network"])
    kept = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules", "ManageForeignNextHops")
    assert network == dict.fromkeys(kept, "no")


def test_kernel_settings_hold_the_one_that_failover_needs() -> None:
    lines = (ROOT / "conf/sysctl.d/90-bgpd.conf").read_text().splitlines()
    settings = dict(re.split(r"\s*=\s*", line) for line in lines if line and not line.startswith("#"))
    assert settings["net.ipv4.nexthop_compat_mode"] == "0"
    assert settings["net.ipv4.ip_forward"] == "1"


BFD_UNIT = ROOT / "systemd/bgpd-bfd.service"


def test_bfd_unit_has_no_capability_and_real_time_priority() -> None:
    text = BFD_UNIT.read_text()
    for line in ("CapabilityBoundingSet=", "User=bgpd", "LimitRTPRIO=10", "Restart=on-failure", "SocketBindDeny=any"):
        assert f"\n{line}\n" in text
    assert "RestrictRealtime" not in text
    assert "\nAmbientCapabilities" not in text
    assert "PartOf=" not in text + UNIT.read_text(), "a restart of one is none of the other"
    socket = BfdProcessConfig().socket
    assert f"\nExecStart=/opt/bgpd/bin/python -I -m bgpd.bfd {socket}\n" in text
    assert f"\nRuntimeDirectory={Path(socket).parent.name}\n" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_bfd_unit_is_one_that_systemd_knows_with_little_exposure(tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(BFD_UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    unit = tmp_path / "bgpd-bfd.service"
    unit.write_text(BFD_UNIT.read_text().replace("/opt/bgpd/bin/python", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "bgpd-bfd.service" in line]
