"""The command line: what it prints, its exit codes, and errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from bgpd.__main__ import main as bgpd_main
from bgpd.api.server import ApiServer
from bgpd.cli.client import DEFAULT_SOCKET, READ_TIMEOUT_S, Client, CommandFailed
from bgpd.cli.decode import DecodeOptions, Hooks
from bgpd.cli.main import COMMANDS, main
from bgpd.cli.tables import SHOWN
from bgpd.config.left import pack, unpack
from bgpd.config.load import Loaded, load_config
from bgpd.config.schema import ApiConfig, Config
from bgpd.runtime.copy_of_process import PATIENCE_S
from bgpd.runtime.events import Event
from tests.scripted_backend import ScriptedBackend

GOOD = (
    '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
    '[[neighbor]]\nname = "leaf1"\naddress = "10.0.1.2"\nasn = 65201\nimport = "all"\n'
)


def run(*arguments: str) -> int:
    def report(text: str, options: DecodeOptions) -> bytes:
        return json.dumps({"text": text, "session": options.session}).encode()

    return main(
        arguments,
        Hooks(
            take_over=lambda: None,
            run_daemon=lambda loaded, file, warnings: 42,
            import_daemon=lambda: None,
            report_message=report,
            flush=lambda config: "flushed",
        ),
    )


@contextlib.contextmanager
def serving(path: str, backend: ScriptedBackend) -> Iterator[None]:
    """The API, for as long as the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ApiServer(ApiConfig(socket=path), backend)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def daemon(tmp_path: Path, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API in a thread with a loop of its own."""
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    with serving(path, backend):
        yield


@pytest.fixture
def good_file(tmp_path: Path) -> str:
    file = tmp_path / "bgpd.toml"
    file.write_text(GOOD)
    return str(file)


def test_check_of_a_good_file_succeeds(good_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", good_file) == 0
    assert capsys.readouterr().out == f"{good_file}: good\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_check_reads_the_file_as_the_user_of_the_service(good_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod(good_file, 0o600)
    assert run("check", "--user", "nobody", good_file) == 0
    assert "cannot be read by user nobody, as whom the daemon runs: Permission denied" in capsys.readouterr().err
    assert run("check", "--user", "no-such-user", good_file) == 2
    assert 'there is no user "no-such-user"' in capsys.readouterr().err


def test_check_tells_all_errors_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(GOOD.replace("65203", "0").replace('"all"', '"al"'))
    assert run("check", str(file)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{file}:2: router.asn: ")
    assert lines[1].startswith(f"{file}:8: neighbor[0].import: ")
    assert lines[2] == f"{file}: 2 errors"


TENANTS = """
[[vrf]]
name = "blue"
table = 1001
vni = 5001
uplinks = ["eth0.101"]
[[vrf]]
name = "red"
table = 1002
vni = 5002
uplinks = ["eth0.102"]
"""


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("table = 1002", "table = 1001", "17: vrf[1].table: ", "the table of vrf[0]"),
        ("table = 1002", 'table = 1002\nrd = "10.255.1.1:1001"', "18: vrf[1].rd: ", "already the rd of vrf[0]"),
        ("table = 1002", 'table = 1002\nrd = "1:2:3"', "18: vrf[1].rd: ", "is not"),
        ("vni = 5002", 'vni = 5002\nimport_rt = ["x"]', "19: vrf[1].import_rt[0]: ", "is not ADMINISTRATOR:NUMBER"),
        ('["eth0.102"]', '["eth0.101"]', "19: vrf[1].uplinks[0]: ", "already an uplink of vrf[0]"),
    ],
)
def test_check_tells_the_line_and_the_key_of_what_is_wrong_with_a_vrf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, place: str, what: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(GOOD + TENANTS.replace(old, new))
    assert run("check", str(file)) == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"{file}:{place}"), first
    assert what in first


def test_run_starts_the_daemon_only_with_a_good_file(good_file: str, tmp_path: Path) -> None:
    assert run("run", "--config", good_file) == 42
    assert run("run", "--config", str(tmp_path / "none.toml")) == 78


def test_schema_of_the_configuration_has_toml_names_and_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--schema") == 0
    neighbor = json.loads(capsys.readouterr().out)["$defs"]["NeighborConfig"]
    assert "import" in neighbor["required"]
    assert neighbor["properties"]["hold_time_s"]["description"]
    assert neighbor["additionalProperties"] is False


def test_every_field_of_the_configuration_is_described_or_a_section() -> None:
    from bgpd.cli.schemas import json_schema

    for definition in json_schema("config")["$defs"].values():
        assert definition["description"]


@pytest.mark.parametrize("name", ["workload", "service", "sync", "status", "explain", "why-not", "what-if", *SHOWN])
def test_payloads_and_views_have_a_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", name) == 0
    assert json.loads(capsys.readouterr().out)["$schema"]


@pytest.mark.usefixtures("daemon")
def test_show_json_is_the_api_answer(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("show", "neighbors", "--json", "--state", "active") == 0
    assert [view["name"] for view in json.loads(capsysbinary.readouterr().out)] == ["leaf2"]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("neighbors", ["leaf1", "10.0.1.2", "65201", "established", "leaf2", "connection refused"]),
        ("routes", ["10.0.0.2/32", "65201 65204", "step 3: longer AS path"]),
        ("fib", ["10.0.0.0/24", "failed", "10.0.2.2 dev eth1 (dead: link is down)"]),
        ("workloads", ["pod1", "10.64.1.5/32", "announced"]),
        ("events", ["no events"]),
    ],
)
def test_show_writes_an_aligned_table_when_piped(
    kind: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", kind) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)
    assert "\x1b" not in out


@pytest.mark.usefixtures("daemon")
def test_the_first_lines_of_a_long_listing_do_not_wait_for_the_last(backend: ScriptedBackend) -> None:
    backend._routes = 200_000
    command = f"{sys.executable} -m bgpd show routes | head -3"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:2]] == [[">", "10.0.0.0/32"]]
    assert done.stderr == ""
    assert backend.routes_shown < 100_000


def test_monitor_comes_back_with_the_daemon_and_misses_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "bgpd.sock")
    first, second = ScriptedBackend(), ScriptedBackend()
    second.started_at += 60

    def happen(backend: ScriptedBackend, event: str) -> None:
        backend.events.keep(Event("info", event, {}, 1.0))

    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # ignored in the background
        "import sys, bgpd.cli.show as show; show.RECONNECT_S = 0.01; import bgpd.__main__ as run; sys.exit(run.main())"
    )
    command = [sys.executable, "-c", code, "monitor", "--json"]
    environment = {**os.environ, "BGPD_SOCKET": path}
    with contextlib.ExitStack() as stack:
        with serving(path, first):
            shown = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            )
            stack.callback(shown.kill)
            assert shown.stdout is not None
            assert shown.stderr is not None
            while not first.events._listeners:
                assert shown.poll() is None
                time.sleep(0.01)
            happen(first, "one")
            assert json.loads(shown.stdout.readline())["event"] == "one"
        assert "waiting for it to come back" in shown.stderr.readline()
        happen(first, "two")
        with serving(path, first):  # the same run: only its API was away
            assert "answers again" in shown.stderr.readline()
            assert json.loads(shown.stdout.readline())["event"] == "two"
        happen(second, "three")
        with serving(path, second):
            assert json.loads(shown.stdout.readline())["event"] == "three"
            shown.send_signal(signal.SIGINT)
            assert shown.wait(10) == 130
        assert "Traceback" not in shown.stderr.read()


def test_monitor_ends_with_who_reads_it(tmp_path: Path) -> None:
    """`bgpd monitor | grep -m1 session.established` went on until the next event."""
    path, backend = str(tmp_path / "bgpd.sock"), ScriptedBackend()
    command = [sys.executable, "-m", "bgpd", "monitor", "--socket", path]
    with serving(path, backend), subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        while not backend.events._listeners:
            assert shown.poll() is None
            time.sleep(0.01)
        backend.events.keep(Event("info", "one", {}, 1.0))
        assert b"one" in shown.stdout.readline()
        shown.stdout.close()
        assert shown.wait(60) == 1
        assert shown.stderr.read() == b""


@pytest.mark.parametrize("terminal", ["none", "dumb"])
def test_top_without_a_terminal_says_what_to_use(
    terminal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if terminal == "dumb":
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr("bgpd.cli.top._has_terminal", lambda: True)
    assert run("top") == 1
    assert "bgpd status and bgpd show write text" in capsys.readouterr().err


def test_top_without_a_daemon_fails_before_it_takes_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "screen")
    monkeypatch.setattr("bgpd.cli.top._has_terminal", lambda: True)
    assert run("top", "--socket", "/nowhere/bgpd.sock") == 1
    assert "bgpd is not running" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_top_prints_its_view_once_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("top", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "ready, without a session with leaf2"


def test_monitor_without_a_daemon_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("monitor", "--socket", str(tmp_path / "none")) == 1
    assert "is not running" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_explain_tells_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "10.0.0.1") == 0
    out = capsys.readouterr().out
    order = ["forwarded by leaf1", "kernel and RIB agree", "nexthop group 7", "! 10.0.2.2", "> leaf1", "lost: step 3"]
    assert [out.index(words) for words in order] == sorted(out.index(words) for words in order)


@pytest.mark.usefixtures("daemon")
def test_why_not_tells_what_is_missing(backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("why-not", "10.64.1.5", "--neighbor", "leaf1", "--vrf", "blue") == 1
    assert backend.orders == ["why-not 10.64.1.5/32 vrf=blue neighbor=leaf1"]
    out = capsys.readouterr().out
    assert out.startswith("10.64.1.5/32 in VRF blue: not announced\n")
    assert 'to        leaf1: export of leaf1 is "none"' in out
    assert run("why-not", "10.64.1.5/24") == 1
    assert "is no prefix" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_what_if_says_what_would_be_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("what-if", "--down", "leaf1") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "without leaf1: 12 routes lost; left: leaf2"
    assert lines[2].split() == ["ipv4-unicast", "3", "0", "0", "12", "0", "none"]
    assert lines[3] == "lost: 10.0.0.0/24, ..."
    assert run("what-if", "--down", "leaf9") == 1
    assert "did you mean leaf1" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_what_if_of_a_drain_says_what_neighbors_would_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("what-if", "--drain") == 1, "it would be refused"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "drained (services): leaf1 is sent 3 and withdrawn 1"
    assert lines[2].split() == ["leaf1", "3", "1"]
    assert lines[3] == "leaf1 withdrawn: 10.64.100.1/32"
    assert run("what-if", "--drain", "--all", "--force") == 0
    assert capsys.readouterr().out.startswith("drained (all): ")
    assert run("what-if", "--down", "leaf1", "--all") == 2
    assert "--all and --force say how far a drain goes" in capsys.readouterr().err


@pytest.mark.parametrize("what", [("--down", "leaf1"), ("--drain",)])
def test_what_if_is_waited_for_longer_than_the_daemon_works_on_it(
    what: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def stream(client: Client, *request: object, timeout_s: float = READ_TIMEOUT_S, **more: object) -> Iterator[bytes]:
        waited.append(timeout_s)
        raise CommandFailed("it took too long")

    monkeypatch.setattr(Client, "stream", stream)
    assert run("what-if", *what) == 1
    assert min(waited) > PATIENCE_S


@pytest.mark.usefixtures("daemon")
def test_what_if_of_a_file_says_what_changes(good_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("what-if", "--reload", good_file) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"with {good_file}: 1 route lost\n")
    assert "neighbor[leaf1].import" in out
    Path(good_file).write_text(GOOD.replace("asn = 65203", "asn = 0"))
    assert run("what-if", "--reload", good_file) == 1
    assert "1 error" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_refusals_are_told_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "10.0.0.1", "--vrf", "green") == 1
    assert capsys.readouterr().err == 'bgpd: there is no VRF "green"\nsee bgpd show vrfs\n'


@pytest.mark.usefixtures("daemon")
def test_freeze_of_a_mac_is_ended(backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.frozen[bytes.fromhex("020000000001")] = 2
    assert run("evpn", "clear", "02:00:00:00:00:01") == 0
    assert "02:00:00:00:00:01: 2 endpoints are tried anew\n" in capsys.readouterr().out
    assert run("evpn", "clear", "02-00-00-00-00-01") == 1
    assert "no endpoint of this host with MAC 02:00:00:00:00:01 is frozen" in capsys.readouterr().err
    assert run("evpn", "clear", "02:00") == 1
    assert '"02:00" is no MAC address' in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_drain_waits_until_it_is_done_and_fails_where_it_is_not(
    backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.drain.looks = 1
    assert run("drain", "on", "--for", "30m", "--all", "--wait") == 0
    assert backend.orders == ['drain {"for_s":1800,"all":true,"force":false,"shutdown":false}']
    assert capsys.readouterr().out.startswith("drained since ")
    backend.drain.looks = 1000
    assert run("drain", "on", "--wait", "--timeout", "1s") == 1
    said = capsys.readouterr()
    assert "waits for: 40 packets/s" in said.out
    assert said.err == (
        "bgpd: the host is not drained after 1 s\n"
        "the drain goes on: bgpd drain status says what it waits for, bgpd drain off ends it\n"
    )
    assert run("drain", "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "draining"
    assert run("drain", "off") == 0
    assert capsys.readouterr().out == "not drained: all is announced as ever\n"
    backend.drain.last = "10.64.100.1/32"
    assert run("drain", "on") == 1
    assert "--force" in capsys.readouterr().err
    assert run("drain", "on", "--force") == 0


@pytest.mark.usefixtures("daemon")
def test_upgrade_says_what_runs_and_changes_nothing_where_it_cannot(
    backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("upgrade", "--check") == 0
    assert capsys.readouterr().out == "bgpd 1 (plain) runs; bgpd 2 (plain) is installed, and can start\n"
    backend.upgrade.problem = "No module named 'msgspec'"
    assert run("upgrade") == 1
    assert "the installed bgpd cannot start: No module named 'msgspec'" in capsys.readouterr().err
    backend.upgrade.problem, backend.upgrade.error = "", "no place for 9 descriptors"
    assert run("upgrade") == 1
    assert "could not be handed over: no place for 9 descriptors\nnothing has changed" in capsys.readouterr().err
    backend.upgrade.error = ""
    assert run("upgrade") == 0
    assert capsys.readouterr().out == (
        "bgpd 1 (plain) is now bgpd 2 (plain), process 1\nhand-over: none; it was a graceful restart\n"
    )
    backend.upgrade.answer.running = False
    assert run("upgrade", "--timeout", "1") == 1


def test_run_with_check_ends_where_it_would_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_text(GOOD)
    before = signal.getsignal(signal.SIGHUP)
    try:
        assert run("run", "--config", str(file), "--check") == 0
        assert capsys.readouterr().out.startswith("bgpd ")
        file.write_text("nonsense = 1")
        assert run("run", "--config", str(file), "--check") == 78
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("daemon")
def test_drain_that_ends_while_it_is_waited_for_is_not_done(
    backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.drain.looks, backend.drain.ends = 1, True
    assert run("drain", "on", "--for", "1m", "--wait") == 1
    assert capsys.readouterr().err.startswith("bgpd: the host is not drained: the drain has ended meanwhile\n")


@pytest.mark.usefixtures("daemon")
def test_shutdown_of_a_host_that_is_not_to_be_drained_then_waits_for_nothing() -> None:
    assert run("drain", "on", "--shutdown", "--wait") == 0


@pytest.mark.parametrize("span", ["30x", "0", "-5", "1.5h", "99999999999d"])
def test_time_that_is_none_is_wrong_usage(span: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("drain", "on", f"--for={span}")
    assert "no time such as" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_reload_with_problems_fails(backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reload") == 0
    backend.reload_problems = ["x.toml:1: router: [router] is missing"]
    assert run("reload") == 1
    assert "nothing was changed" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_plan_says_which_sessions_reset(tmp_path: Path, good_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", good_file) == 0
    assert capsys.readouterr().out == "nothing changes\n"
    Path(good_file).write_text(GOOD + "hold_time_s = 30\n")
    assert run("plan", good_file) == 0
    assert re.search(r"reset +neighbor\.leaf1\.hold_time_s +9 -> 30 +leaf1", capsys.readouterr().out)


def test_absent_daemon_is_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "neighbors", "--socket", str(tmp_path / "none")) == 1
    assert "is not running" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    with pytest.raises(CommandFailed, match="broke off"):
        Client(os.environ["BGPD_SOCKET"]).get("/v1/broken-late")


def test_decode_answers_every_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"aa\n\n\xff\xfe\nbb")))
    assert run("decode", "--session", "ibgp", "ff ff", "-", "") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"].strip() for answer in answers] == ["ff ff", "aa", "\ufffd\ufffd", "bb", ""]
    assert answers[0]["session"] == "ibgp"


KEEPALIVE = "ff" * 16 + "001304"


def test_decode_uses_the_decoder_of_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert bgpd_main(["decode", KEEPALIVE, "zz"]) == 1
    written = capsys.readouterr()
    keepalive, garbage = (json.loads(line) for line in written.out.splitlines())
    assert written.err == 'bgpd: "zz": this is not an even number of hexadecimal digits\n'
    assert (keepalive["type"], keepalive["reaction"]) == ("KEEPALIVE", "accept")
    assert garbage["reaction"] == "session-reset"
    assert garbage["errors"]


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in ((), ("colours",), ("show", "colours"), ("show", "routes", "--limit", "x")):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["shwo", "neighbors"], "show"),
        (["show", "neighbours"], "neighbors"),
        (["show", "rotues"], "routes"),
        (["show", "routes", "--neighbour", "leaf1"], "--neighbor"),
        (["workload", "ad", "x"], "add"),
        (["statsu"], "status"),
        (["neighbors"], "show neighbors"),
        (["route"], "show route"),
    ],
)
def test_mistyped_word_is_answered_with_the_one_that_is_close(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "listed"),
    [((), "one of: run, check,"), (("show",), "one of: neighbors, routes,"), (("workload",), "one of: add, del, list")],
)
def test_missing_word_is_answered_with_those_that_there_are(
    arguments: tuple[str, ...], listed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(*arguments)
    assert listed in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("arguments", "words", "absent"),
    [
        (["neighbors", "leaf1"], ["leaf1"], ["leaf2"]),
        (["neighbor", "leaf2"], ["leaf2"], ["leaf1"]),
        (["neighbors", "10.0.1.2"], ["leaf1"], ["leaf2"]),
        (["route"], ["10.0.0.0/32", "10.0.0.2/32"], []),
        (["routes", "10.0.0.1/32"], ["10.0.0.1/32"], ["10.0.0.2"]),
        (["route", "10.0.0.1"], ["10.0.0.1/32"], ["10.0.0.2"]),
        (["routes", "10.0.0.0/8", "--longer-prefixes"], ["10.0.0.0/32", "10.0.0.2/32"], []),
        (["routes", "leaf2"], ["10.0.0.1/32"], []),
        (["fib", "10.0.0.0/24"], ["10.0.0.0/24"], []),
        (["workload", "pod1"], ["10.64.1.5/32"], []),
        (["workloads", "10.64.1.5"], ["pod1"], []),
        (["workloads", "pod2"], ["no workloads that fit"], ["pod1"]),
        (["service", "web"], ["10.64.100.1/32"], []),
    ],
)
def test_show_takes_what_it_is_about_without_an_option(
    arguments: list[str], words: list[str], absent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", *arguments) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    assert not any(word in out for word in absent), out


@pytest.mark.usefixtures("daemon")
def test_one_thing_is_not_asked_for_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "neighbors", "leaf1", "--neighbor", "leaf2") == 2
    assert "leave one out" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_explain_at_tells_how_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "10.0.0.1", "--at", "2023-11-14T23:00:00+00:00") == 0
    told = capsys.readouterr().out
    assert "10.64.9.0/24 went to 10.0.1.2, as said by leaf1" in told
    assert "leaf1 established for" in told
    assert "leaf1: via 10.0.1.2; UPDATE aa" in told
    assert "leaf2: gone (x); its session ended" in told
    assert run("explain", "10.0.0.1", "--wire", "--json") == 0
    assert json.loads(capsys.readouterr().out)["messages"][0]["source"] == "leaf1"
    assert run("explain", "10.0.0.1", "--wire") == 0
    assert "leaf1: the UPDATE is not in the history" in capsys.readouterr().out
    assert run("explain", "10.0.0.1", "--at", "2020-01-01") == 1
    assert "begins later" in capsys.readouterr().err
    assert run("explain", "pod1", "--at", "10m") == 0
    assert "10.64.1.5 at " in capsys.readouterr().out
    assert run("explain", "10.64.0.0/16", "--at", "10m") == 2
    assert "10.64.0.0/16 is 65536 addresses" in capsys.readouterr().err
    assert run("explain", "pod1", "--vrf", "red", "--at", "10m") == 1
    assert '"pod1" is no address, and no workload or service had this name at' in capsys.readouterr().err
    assert run("explain", "10.0.0.1", "--at", "10m", "--state", "/nowhere") == 1
    assert "/nowhere/history: No such file" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_explain_takes_one_address_however_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("10.64.1.1", "10.64.1.1/32", "2001:db8::1/128"):
        assert run("explain", text) == 0
        assert capsys.readouterr().out.startswith(f"{text.partition('/')[0]}: reachable")
    assert run("explain", "10.64.0.0/16") == 2
    assert "show routes 10.64.0.0/16 --longer-prefixes" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_explain_takes_the_name_of_a_workload_or_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "pod1") == 0
    assert capsys.readouterr().out.startswith("10.64.1.5: reachable")
    assert run("explain", "web") == 0
    out = capsys.readouterr().out
    assert "10.64.100.1 in VRF blue: reachable" in out
    assert "2001:db8::100 in VRF blue: reachable" in out
    assert run("explain", "web", "--json") == 0
    assert [view["address"] for view in json.loads(capsys.readouterr().out)] == ["10.64.100.1", "2001:db8::100"]
    assert run("explain", "leaf9") == 1
    assert '"leaf9" is no address, and no workload or service' in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_status_tells_whether_the_host_is_ready_and_fails_if_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status") == 1
    assert capsys.readouterr().out.splitlines()[1:3] == ["NOT READY", "  no neighbor is established"]
    assert run("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_check_and_plan_without_a_file_take_the_one_of_the_service(
    good_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bgpd.cli.main.DEFAULT_CONFIG", good_file)
    assert run("check") == 0
    assert capsys.readouterr().out == f"{good_file}: good\n"


def test_empty_socket_variable_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BGPD_SOCKET", "")
    with pytest.raises(SystemExit):
        run("status", "--help")
    assert DEFAULT_SOCKET in capsys.readouterr().out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_output_is_an_error_without_a_traceback(closed: str, good_file: str) -> None:
    command = f"{sys.executable} -m bgpd check {good_file} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if closed == ">&-":
        assert done.stderr == "bgpd: the output cannot be written: standard output is closed\n"


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    offered = set(re.findall(r"^    ([\w-]+) ", capsys.readouterr().out, re.MULTILINE))
    assert offered == COMMANDS.keys()


def test_default_socket_is_that_of_the_configuration() -> None:
    assert ApiConfig().socket == DEFAULT_SOCKET
    assert Config.__struct_fields__


@pytest.mark.parametrize(
    "command",
    [["show", "neighbors", "--json"], ["--version"], ["completion", "bash", "--", "bgpd show neighbors le"]],
)
def test_quick_commands_import_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from bgpd.__main__ import main\n"
        f"try: main({command!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'h11', 'rich', 'exabgp', 'pyroute2', 'asyncio', 'msgspec', 'http', 'email', 'ssl'}\n"
        "heavy &= set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    environment = {**os.environ, "BGPD_SOCKET": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_run_hands_warnings_to_the_daemon_and_no_early_reload_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    file = tmp_path / "bgpd.toml"
    file.write_text(GOOD)
    found: list[object] = []

    def run_daemon(loaded: Loaded, file: str, warnings: Sequence[str]) -> int:
        found.extend((loaded.config.router.asn, signal.getsignal(signal.SIGHUP), len(warnings)))
        return 0

    before = signal.getsignal(signal.SIGHUP)
    try:
        hooks = Hooks(
            lambda: found.append("taken over"), run_daemon, lambda: None, lambda *_: b"", flush=lambda config: ""
        )
        assert main(["run", "--config", str(file)], hooks) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found == ["taken over", 65203, signal.SIG_IGN, 1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_left", [True, False])
def test_run_with_errors_goes_on_with_what_another_process_has_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_left: bool
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD)
    bad.write_text("[router")
    packed = pack(load_config(str(good))) if is_left else b""
    found: list[tuple[int, int]] = []

    def run_daemon(loaded: Loaded, file: str, warnings: Sequence[str]) -> int:
        found.append((loaded.config.router.asn, len(loaded.errors)))
        return 0

    before = signal.getsignal(signal.SIGHUP)
    try:
        left = partial(unpack, packed)
        hooks = Hooks(lambda: None, run_daemon, lambda: None, lambda *_: b"", lambda _: "", left)
        assert main(["run", "--config", str(bad)], hooks) == (0 if is_left else 78)
        assert main(["run", "--check", "--config", str(bad)], hooks) == 78
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found == [(65203, 1)] * is_left
    assert "is not valid TOML" in capsys.readouterr().err


def test_an_option_of_another_command_is_not_answered_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("drain", "off", "--for", "30m")
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "unrecognized arguments: --for 30m" in err
    assert "did you mean" not in err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("loopback4=node1", "gives no IPv4 address"),
        ("loopback4=", "gives no IPv4 address"),
        ("loopback6=10.0.0.1", "gives no IPv6 address"),
        ("loopback4", "sets no variable"),
        ("ASN=1", "sets no variable"),
    ],
)
def test_a_variable_that_is_set_to_nonsense_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_text(GOOD.replace('"10.255.1.1"', '"auto"'))
    assert run("check", str(file), "--set", setting) == 2
    assert said in capsys.readouterr().err
    assert run("check", str(file), "--set", "loopback4=10.255.1.9") == 0
    assert 'router_id = "auto" is 10.255.1.9 here, made from the loopback address' in capsys.readouterr().out


@pytest.mark.parametrize("given", ["25:99", "02:61", "yesterday", "2026-13-01"])
def test_time_of_explain_that_is_none_is_named_as_it_was_given(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("explain", "10.0.0.1", f"--at={given}")
    assert f'"{given}" is no time such as' in capsys.readouterr().err


def test_bundle_without_a_daemon_says_once_why_so_much_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bundle", "--socket", "/nowhere/bgpd.sock", str(tmp_path / "out.tar.gz")) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "is not running" in line]
    assert line.startswith("bgpd: not in it, since bgpd is not running: nothing answers on /nowhere/bgpd.sock: ")
    assert "/v1/neighbors" in line


@pytest.mark.usefixtures("daemon")
def test_routes_of_an_earlier_time_are_told_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "routes", "10.64.9.0/24", "--at", "2023-11-14T23:00:00+00:00") == 0
    told = capsys.readouterr()
    assert "10.0.0.1/32" in told.out
    assert "as it was at 2023-11-1" in told.err
    assert "the first 1 of 2" in told.err
    assert run("show", "routes", "--at", "10m") == 2
    assert "--at is about a prefix or an address" in capsys.readouterr().err
    assert run("show", "routes", "10.64.9.0/24", "--neighbor", "leaf1", "--at", "10m") == 2
    assert "--at and --neighbor do not go together" in capsys.readouterr().err
    assert run("show", "routes", "10.64.9.0/24", "--directory", "/var/lib/bgpd") == 2, "it had shown those of this host"
    assert "--directory goes with --at" in capsys.readouterr().err
    assert run("show", "routes", "10.64.9.0/24", "--at", "2001-11-14T23:00") == 1
    assert "the history of routes begins later" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    "command",
    [
        ("explain", ""),
        ("show", "routes", ""),
        ("show", "routes", "--neighbor", ""),
        ("show", "routes", "--neighbor="),
        ("show", "events", "--prefix", "", "--vrf", ""),
        ("workload", "del", ""),
    ],
)
def test_an_empty_argument_is_not_taken_for_none(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """`bgpd show routes --neighbor "$LEAF"` showed the routes of all neighbors where LEAF was not set."""
    assert run(*command) == 2
    assert "is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("show", "routes", "--neighbor", "leaf1", "--neighbor", "leaf2"),
        ("show", "routes", "--neighbor=leaf1", "--json", "--neighbor=leaf2"),
        ("drain", "on", "--for", "30m", "--for", "1h"),
    ],
)
def test_an_option_with_two_values_is_refused(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """Only the last one counted, and nobody was told."""
    with pytest.raises(SystemExit, match="2"):
        run(*command)
    assert "is given twice" in capsys.readouterr().err


def test_a_time_that_ends_before_it_begins_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "events", "--since", "10m", "--until", "20m") == 2
    assert "--until is before --since" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_a_flag_may_be_given_again() -> None:
    assert run("show", "routes", "--json", "--json") == 0


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("command", [("show", "routes", "--vrf", ""), ("show", "routes", "--vrf=")])
def test_an_empty_vrf_is_the_main_table(command: tuple[str, ...]) -> None:
    assert run(*command) == 0


@pytest.mark.usefixtures("daemon")
def test_tables_of_an_earlier_time_are_narrowed_by_the_host(
    backend: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "workloads", "pod1", "--vrf", "", "--at", "2023-11-14T23:00:00+00:00") == 0
    told = capsys.readouterr()
    assert "10.64.1.5/32" in told.out
    assert "46m40s" in told.out, "since it was announced, up to then"
    assert "as it was at 2023-11-1" in told.err
    assert "the first 1 of 2" in told.err
    asked = (
        '{"at":1700002800.0,"search":"","vrf":"","family":"","state":"","type":0,"prefix":"","longer_prefixes":false,'
    )
    assert backend.orders[-1].startswith(f'past workloads {asked}"name":"pod1"')
    assert run("show", "evpn", "--type", "5", "--at", "2023-11-14T23:00:00+00:00") == 0
    assert "no EVPN routes that fit" in capsys.readouterr().out
    assert '"type":5' in backend.orders[-1]
    assert run("show", "evpn", "--unresolved", "--at", "10m") == 2
    assert "--at and --unresolved do not go together" in capsys.readouterr().err
    assert run("show", "services", "--at", "2001-11-14T23:00") == 1
    assert "the history of routes begins later" in capsys.readouterr().err
    assert run("show", "services", "--at", "10m", "--directory", "/nowhere") == 1
    assert "cannot be read" in capsys.readouterr().err
