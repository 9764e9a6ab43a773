"""`--json` of each command, held against the schema that `bgpd schema` prints for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from bgpd.__main__ import main as bgpd_main
from bgpd.cli.main import make_parser
from bgpd.cli.parser import Parser, below
from bgpd.cli.schemas import SCHEMAS, json_schema
from bgpd.cli.tables import SHOWN
from bgpd.simulation.command import HASH_SEED
from tests.cli.test_main import GOOD, KEEPALIVE, run, serving
from tests.scripted_backend import ScriptedBackend
from tests.simulation.topologies import LAB

WITHOUT = {"bgpd run", "bgpd schema", "bgpd completion", "bgpd man"}
"""The daemon, and what writes JSON or text for other programs anyway."""


def leaves(parser: Parser) -> Iterator[Parser]:
    """All commands that have none below them."""
    inner = below(parser.filled())
    if not inner:
        yield parser
    for one in inner.values():
        yield from leaves(one)


def test_every_command_takes_json() -> None:
    for parser in leaves(make_parser()):
        has_json = parser.option("--json") is not None
        assert has_json is (parser.prog not in WITHOUT and not is_of_other(parser)), parser.prog


def is_of_other(parser: Parser) -> bool:
    """`bgpd demo` runs until it is ended, and shows other commands."""
    return parser.prog.startswith("bgpd demo")


def test_schema_document_has_every_name() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for name in SCHEMAS:
        assert f"`{name}`" in text, name


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedBackend]:
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    monkeypatch.setenv("PYTHONHASHSEED", HASH_SEED)  # else bgpd simulate would begin anew
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text(GOOD.replace("65203", "0"))
    (tmp_path / "frr.conf").write_text("router bgp 65203\n neighbor 10.0.1.2 remote-as 65201\n")
    backend = ScriptedBackend()
    with serving(path, backend):
        yield backend


def fits(text: str, name: str) -> Any:
    """The JSON of a text, which its schema allows, and which has no field that the schema does not have.

    Before it may stand what a server that runs in this process logs.
    """
    found = json.loads(text[re.search(r"^[\[{]", text, re.MULTILINE).start() :])  # type: ignore[union-attr]
    schema = json_schema(name)
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    jsonschema_rs.validator_for(schema).validate(found)
    return found


COMMANDS = [
    *((f"show {kind}", kind) for kind in ("neighbors", "routes", "fib", "workloads", "services", "events")),
    ("workload list", "workloads"),
    ("service list", "services"),
    ("status", "health"),
    ("top", "overview"),
    ("top", "top"),
    ("explain 10.0.0.1", "explain"),
    ("explain 10.0.0.1 --at 2023-11-14T23:00:00+00:00", "explain-at"),
    ("show routes 10.64.9.0/24 --at 2023-11-14T23:00:00+00:00", "routes"),
    ("show workloads pod1 --at 2023-11-14T23:00:00+00:00", "workloads"),
    ("show evpn --at 2023-11-14T23:00:00+00:00", "evpn"),
    ("show services --at 2023-11-14T23:00:00+00:00", "services"),
    ("why-not 10.0.0.1", "why-not"),
    ("what-if --down leaf1", "what-if"),
    ("what-if --reload good.toml", "what-if"),
    ("plan good.toml", "plan"),
    ("reload", "reload"),
    ("drain on", "drain"),
    ("drain off", "drain"),
    ("drain status", "drain"),
    ("upgrade --check", "upgrade"),
    ("upgrade", "upgrade"),
    ("version", "version"),
    ("check good.toml", "check"),
    ("check bad.toml", "check"),
    ("check none.toml", "check"),
    ("import frr frr.conf", "import"),
    ("import frr frr.conf --output new.toml", "import"),
    ("bundle some.tar.gz", "bundle"),
    ("mrt dump routes.mrt", "mrt-dump"),
    ("flush --config good.toml", "flush"),
    (f"simulate {LAB / 'two-leaf.clab.yml'}", "simulate"),
]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(("line", "name"), COMMANDS)
def test_output_is_what_the_schema_says(line: str, name: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run(*line.split(), "--json")
    written = capfdbinary.readouterr()
    fits(written.out.decode(), name)
    assert b"Traceback" not in written.err


@pytest.mark.usefixtures("daemon")
def test_errors_of_a_file_stand_in_the_json_and_cost_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "bad.toml", "--json") == 1
    written = capsys.readouterr()
    report = fits(written.out, "check")
    assert (report["good"], report["errors"][0]["line"], report["errors"][0]["path"]) == (False, 2, "router.asn")
    assert written.err == ""


@pytest.mark.usefixtures("daemon")
def test_freeze_that_is_ended(daemon: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.frozen[bytes.fromhex("020000000001")] = 2
    assert run("evpn", "clear", "02:00:00:00:00:01", "--json") == 0
    assert fits(capsys.readouterr().out, "evpn-clear") == {"mac": "02:00:00:00:00:01", "endpoints": 2}


def test_confirm(daemon: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reload", "--confirm", "60", "--json") == 0
    capsys.readouterr()
    assert run("confirm", "--json") == 0
    assert fits(capsys.readouterr().out, "confirm") == {"confirmed": True}


def test_decoded_messages_and_those_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bgpd_main(["decode", KEEPALIVE, "--json"]) == 0
    assert fits(capsys.readouterr().out, "decode")["type"] == "KEEPALIVE"


def test_each_listing_has_a_schema() -> None:
    assert SHOWN.keys() <= SCHEMAS.keys()
