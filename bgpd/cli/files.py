"""Commands about configuration files: run, check, flush, plan, reload, confirm."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from bgpd.cli.client import Client, CommandFailed, WrongUsage
from bgpd.cli.decode import Hooks
from bgpd.config.schema import Config
from bgpd.model.identity import Identity, Origin
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.form import described_version

if TYPE_CHECKING:
    from bgpd.config.load import Loaded, Problem

EX_CONFIG = 78
EX_TEMPFAIL = 75
"""The exit code of a start that may succeed a little later (sysexits.h): the service manager tries again."""
LOOPBACK_WAIT_S = 60
"""How long a start waits for a loopback address that the configuration asks for; a host that boots gets it late."""
FIRST_CHOICE_WAIT_S = 10
"""How long the first start of a host waits for a loopback address to make "auto" from; a later one knows it."""
LOOK_S = 0.5


def run(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd run`: the daemon, in the foreground. Exit code 78 (EX_CONFIG of sysexits.h) if the file has errors, 75
    (EX_TEMPFAIL) if all that is wrong is that the host has no loopback address yet.

    With --check it ends where it would begin, having imported all.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon hears it, a reload would end the process
    if not arguments.check:
        hooks.take_over()
    loaded, code = _load_to_run(arguments.config, hooks, is_check=arguments.check)
    if loaded is None:
        return code
    if arguments.check:
        hooks.import_daemon()
        print(described_version())
        return 0
    warnings = list(map(str, loaded.warnings))
    if "JOURNAL_STREAM" not in os.environ:  # people read lines, the journal takes records with a priority
        _tell(f"warning: {warning}" for warning in warnings)
        warnings = []
    return hooks.run_daemon(loaded, arguments.config, warnings)


def _load_to_run(file: str, hooks: Hooks, *, is_check: bool) -> tuple[Loaded | None, int]:
    """The configuration of a daemon that starts; None, and its exit code, if there is none to start with.

    With errors in the files it is what another process has left with its sessions: they are worth more.
    """
    from bgpd.config.load import HostNotReady

    errors: list[Problem] = []
    loaded, code = None, EX_CONFIG
    try:
        loaded = _load(file, running=True, wait_s=0 if is_check else LOOPBACK_WAIT_S, errors=errors)
    except HostNotReady:
        code = EX_TEMPFAIL
    if loaded is not None:
        return loaded, 0
    _tell_errors(file, errors, None)
    if not is_check and (loaded := hooks.left_configuration(list(map(str, errors)))) is not None:
        _tell([f"{file}: not in force: bgpd goes on with the configuration that it had before it was restarted"])
    return loaded, code


def flush(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd flush`: exit code 1 while a daemon runs, and if something is left in the kernel."""
    loaded = _load(arguments.config, running=True, given=_given(arguments.set))
    if loaded is None:
        return EX_CONFIG
    flushed = hooks.flush(loaded.config)
    print(json.dumps({"flushed": flushed}, indent=1) if arguments.json else flushed)
    return 0


def check(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd check`: exit code 0 if the daemon would take the file; files are read as the user of the service."""
    from bgpd.config.identity import origin_text
    from bgpd.config.service_user import SERVICE_USER, name_of, uid_of, unreadable
    from bgpd.config.texts import FRAGMENTS

    if arguments.schema:
        from bgpd.cli.schemas import schema

        arguments.name = "config"
        return schema(arguments, hooks)
    uid = uid_of(arguments.user or SERVICE_USER)
    if arguments.user and uid is None:
        raise WrongUsage(f'there is no user "{arguments.user}"', "name the user that the daemon runs as")
    errors: list[Problem] = []
    loaded = _load(arguments.file, uid=uid, given=_given(arguments.set), errors=errors if arguments.json else None)
    if loaded is None:
        if arguments.json:
            _print_check(arguments.file, errors=errors)
        return 1
    warnings = list(map(str, loaded.warnings))
    if uid is not None:
        warnings += [
            f"{file}: cannot be read by user {name_of(uid)}, as whom the daemon runs: {why}"
            for file, why in unreadable(_places_of(loaded.files), uid).items()
        ]
    config = loaded.config
    with contextlib.suppress(CommandFailed):  # no daemon runs here, or not for this user
        warnings += _exceeded_limits(config, Client(os.environ.get("BGPD_SOCKET") or config.api.socket))
    if arguments.json:
        _print_check(arguments.file, loaded=loaded, warnings=warnings)
        return 0
    _tell(f"warning: {warning}" for warning in warnings)
    fragments = len(loaded.files) - 1
    more = f" (with {fragments} file{'s' if fragments > 1 else ''} of {FRAGMENTS})" if fragments else ""
    print(f"{arguments.file}: good{more}")
    for name, chosen in (("asn", loaded.identity.asn), ("router_id", loaded.identity.router_id)):
        if chosen is not None:
            print(f'{name} = "auto" is {chosen.value} here, made from {origin_text(chosen)}')
    return 0


def _print_check(
    file: str, *, loaded: Loaded | None = None, errors: Sequence[Problem] = (), warnings: Sequence[str] = ()
) -> None:
    """A CheckReport."""
    report = {
        "file": file,
        "good": loaded is not None,
        "files": list(loaded.files) if loaded else [],
        "errors": msgspec.to_builtins(errors),
        "warnings": list(warnings),
        "chosen": msgspec.to_builtins(loaded.identity if loaded else Identity()),
    }
    print(json.dumps(report, indent=1))


def _places_of(files: Sequence[str]) -> list[str]:
    """The files of a configuration, and the directories of its fragments."""
    return list(dict.fromkeys([*(os.path.dirname(file) for file in files[1:]), *files]))


def _given(settings: Sequence[str]) -> dict[str, str]:
    """The variables of --set. Raises: WrongUsage."""
    from bgpd.config.facts import LOOPBACK_VERSIONS
    from bgpd.config.variables import VARIABLES

    given = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not (name in VARIABLES or name.startswith("env:")):
            raise WrongUsage(
                f'"{setting}" sets no variable', f"--set NAME=VALUE, NAME one of {', '.join(VARIABLES)}, env:NAME"
            )
        if name in LOOPBACK_VERSIONS and not _is_address(value, LOOPBACK_VERSIONS[name]):
            raise WrongUsage(f'"{setting}" gives no IPv{LOOPBACK_VERSIONS[name]} address', f"--set {name}=ADDRESS")
        given[name] = value
    return given


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def plan(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd plan`: what a reload with the file would do to the running daemon."""
    import msgspec

    from bgpd.config.effects import config_diff
    from bgpd.config.schema import Config

    client = Client(arguments.socket)
    loaded = load_for_daemon(arguments.file, client, given=_given(arguments.set))
    if loaded is None:
        return 1
    answer = b"".join(client.stream("GET", "/v1/config"))
    config, warnings = loaded.config, map(str, loaded.warnings)
    _tell(f"warning: {warning}" for warning in (*warnings, *_exceeded_limits(config, client)))
    before = _made_out(msgspec.json.decode(answer, type=Config), client)
    changes = msgspec.to_builtins(config_diff(before, _made_out(config, client)))
    if arguments.json:
        print(json.dumps(changes, indent=1))
    else:
        write_changes(changes)
    return 0


def load_for_daemon(file: str, client: Client, *, given: Mapping[str, str] | None = None) -> Loaded | None:
    """The configuration of a file as the running daemon would read it; None if there are errors, which are told.

    Raises: CommandFailed: no daemon runs; what is wrong with the file is told before.
    """
    given = given or {}
    try:
        running = _running_configuration(client)
    except CommandFailed:
        if _load(file, given=given) is None:
            return None
        raise
    return _load(
        file,
        uid=client.daemon_uid,
        given={**_loopback_elsewhere(running, client.daemon_pid), **given},
        otherwise={name: value for name, value in running.get("variables", {}).items() if name.startswith("env:")},
        identity=_identity_of(running),
    )


def _running_configuration(client: Client) -> dict[str, Any]:
    """Where that of the daemon came from (ConfigurationView); empty of a version that does not say. Raises:
    CommandFailed."""
    health = client.get("/v1/health", accepted=(503,))
    return health.get("configuration") or {}


def _identity_of(running: Mapping[str, Any]) -> Identity:
    """What "auto" stands for in the daemon, of its ConfigurationView."""
    return msgspec.convert({name: running.get(name) for name in ("asn", "router_id")}, Identity)


def _loopback_elsewhere(running: Mapping[str, Any], pid: int) -> dict[str, str]:
    """The loopback addresses that the daemon has found, where it runs in another network namespace than this process:
    those of this one say nothing about it. Empty where it is the same one, or that cannot be known."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return {}
    except OSError:
        return {}
    chosen = _identity_of(running)
    of = [one.of for one in (chosen.asn, chosen.router_id) if one is not None and one.origin is Origin.LOOPBACK]
    found = {name: value for name, value in running.get("variables", {}).items() if name.startswith("loopback")}
    return {**({"loopback4": of[0]} if of else {}), **found}


def reload(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd reload`: exit code 1 if the file has errors; then nothing has changed."""
    parameters = {"confirm_s": arguments.confirm}
    view = Client(arguments.socket).order("POST", "/v1/reload", parameters=parameters)
    if arguments.json:
        print(json.dumps(view, indent=1))
        return 1 if view["problems"] else 0
    for line in (*view["problems"], *(f"warning: {warning}" for warning in view["warnings"])):
        print(line, file=sys.stderr)
    if view["problems"]:
        print("nothing was changed", file=sys.stderr)
        return 1
    write_changes(view["changes"])
    if view.get("confirm_until"):
        at = time.strftime("%H:%M:%S", time.localtime(view["confirm_until"]))
        print(f"on trial: at {at} it goes back, unless bgpd confirm keeps it")
    return 0


def confirm(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd confirm`: exit code 1 if nothing is on trial."""
    for _ in Client(arguments.socket).stream("POST", "/v1/confirm"):
        pass
    print(json.dumps({"confirmed": True}) if arguments.json else "confirmed")
    return 0


def _load(
    file: str,
    *,
    running: bool = False,
    uid: int | None = None,
    given: Mapping[str, str] | None = None,
    otherwise: Mapping[str, str] | None = None,
    identity: Identity | None = None,
    wait_s: float = 0,
    errors: list[Problem] | None = None,
) -> Loaded | None:
    """The configuration, and the warnings about it; None if there are errors, which are told, or added to `errors`.

    `wait_s`: how long to wait for a loopback address that it asks for; if none comes, HostNotReady is raised.
    """
    from bgpd.config.load import ConfigError, HostNotReady, load_config
    from bgpd.kernel.facts import facts_of_host

    began = time.monotonic()
    is_told = False
    while True:
        facts = facts_of_host(given=given, otherwise=otherwise)
        waited_s = time.monotonic() - began
        try:
            loaded = load_config(file, running=running, uid=uid, facts=facts, identity=identity)
            if not loaded.is_early or waited_s >= min(wait_s, FIRST_CHOICE_WAIT_S):
                return loaded
        except HostNotReady as error:
            if waited_s >= wait_s:
                _tell_errors(file, error.problems, errors)
                if wait_s:
                    raise
                return None
            if not is_told:
                _tell(error.problems)
        except ConfigError as error:
            _tell_errors(file, error.problems, errors)
            return None
        if not is_told:
            print(f"{file}: waiting for a loopback address", file=sys.stderr, flush=True)
        is_told = True
        time.sleep(LOOK_S)


def _tell_errors(file: str, problems: Sequence[Problem], errors: list[Problem] | None) -> None:
    if errors is not None:
        errors += problems
        return
    _tell(problems)
    print(f"{file}: {len(problems)} error{'s' if len(problems) > 1 else ''}", file=sys.stderr)


def _exceeded_limits(config: Config, client: Client) -> list[str]:
    """What neighbors of the running daemon have beyond the limits of a configuration. Raises: CommandFailed."""
    from bgpd.config.limits import exceeded_limits

    return exceeded_limits(_made_out(config, client), msgspec.convert(client.get("/v1/neighbors"), list[NeighborView]))


def _made_out(config: Config, client: Client) -> Config:
    """The configuration with the neighbors that its patterns make on the daemon's host. Raises: CommandFailed."""
    from bgpd.config.patterns import has_patterns, match_neighbors

    return match_neighbors(config, client.get("/v1/interfaces")).config if has_patterns(config) else config


def _tell(lines: Iterable[object]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def write_changes(changes: list[Mapping[str, Any]]) -> None:
    """A table of ConfigChangeViews."""
    rows = [
        (
            change["effect"],
            change["path"],
            change["change"]
            if change["change"] != "changed"
            else f"{_short(change['old'])} -> {_short(change['new'])}",
            ", ".join(change["neighbors"]) if change["effect"] in ("reset", "refresh") else "",
        )
        for change in changes
    ]
    from bgpd.cli.render import write_table

    write_table(("Effect", "Key", "Change", "Neighbors"), rows, sys.stdout, empty="nothing changes")


def _short(value: object) -> str:
    line = json.dumps(value)
    return line if len(line) <= 60 else "(changed)"
