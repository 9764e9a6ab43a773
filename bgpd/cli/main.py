"""The command line: which commands there are, their options, and how they end.

Everything a command needs is imported when it runs, so that starting is quick. Exit codes: 0 done, 1 not done (said on
standard error), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple

from bgpd import __version__
from bgpd.cli.client import CommandFailed, WrongUsage, other_daemon
from bgpd.cli.decode import Hooks
from bgpd.cli.exit_codes import FAILED, INTERRUPTED, WRONG_USAGE
from bgpd.cli.moments import moment, span_s
from bgpd.cli.mrt_options import mrt_options, replay_options
from bgpd.cli.options import (
    count,
    json_option,
    listing_options,
    no_or_some_seconds,
    only_json_option,
    refuse_empty,
    seed,
    set_option,
    view_options,
    wait_s,
)
from bgpd.cli.output import drop, end_output, stand_in_for_closed_output, tell, write_what_fits
from bgpd.cli.parser import Commands, Parser
from bgpd.cli.progress import progress
from bgpd.cli.tables import SHOWN
from bgpd.runtime.form import described_version, form

DEFAULT_CONFIG = "/etc/bgpd/bgpd.toml"
SHELLS = ("bash", "zsh", "fish")
IMPORTED = ("bird", "calico", "frr", "gobgp", "metallb")
"""Programs whose configuration `bgpd import` reads (FORMATS of migrate/importing.py)."""
_NAME = "the name that it has in listings, events and reports"
_IN_A_VRF = "the VRF of it; default: the main table"


class Command(NamedTuple):
    """A command: help text, what adds its options, and "module:function" that runs it."""

    help: str
    options: Callable[[Parser], None]
    runs: str


def _run_options(parser: Parser) -> None:
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")


def _flush_options(parser: Parser) -> None:
    _run_options(parser)
    only_json_option(parser)
    set_option(parser)


def _start_options(parser: Parser) -> None:
    _run_options(parser)
    parser.add_argument("--check", action="store_true", help="only see whether it could: import all, read FILE, end")


def _upgrade_options(parser: Parser) -> None:
    json_option(parser)
    parser.add_argument("--check", action="store_true", help="only see whether the installed version can start")
    parser.add_argument("--timeout", metavar="TIME", type=span_s, default=60, help="until it runs; default: 60s")


def _check_options(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    parser.add_argument("--schema", action="store_true", help="print the configuration's JSON Schema")
    parser.add_argument("--user", metavar="NAME", default="", help="the user that the daemon runs as; default: bgpd")
    set_option(parser)
    only_json_option(parser)


def _init_options(parser: Parser) -> None:
    parser.description = (
        "Look at this machine (interfaces, addresses, routers next door, default routes, who routes here already) and "
        "write a commented configuration: safe to start, with nothing announced until a person says what. Works "
        "without root as far as it goes, and says what it could not see."
    )
    parser.epilog = "docs/migrate.md says what is looked at. Router solicitations are sent on interfaces that are up."
    _output_options(parser)
    parser.add_argument(
        "--listen", metavar="S", type=wait_s, default=4, help="seconds for router advertisements; default: 4, 0: none"
    )


def _import_options(parser: Parser) -> None:
    parser.description = (
        "Write a configuration from another program's: what could not be converted is told on standard error, with "
        "file and line, and stands in the configuration as comments. A filter that cannot be converted lets nothing "
        "through."
    )
    parser.epilog = "docs/migrate.md says what of each format is converted, and what means something else here."
    parser.add_argument("format", metavar="FORMAT", choices=IMPORTED, help=f"one of {', '.join(IMPORTED)}")
    parser.add_argument("files", metavar="FILE", nargs="+", help='configuration files; "-" is standard input')
    _output_options(parser)
    parser.add_argument("--node", metavar="NAME", default="", help="calico, metallb: the node that it is for")
    parser.add_argument(
        "--passwords", metavar="DIR", default="", help="write passwords into files of DIR; default: beside --output"
    )


def _output_options(parser: Parser) -> None:
    parser.add_argument("--output", metavar="FILE", default="", help="write to FILE; default: standard output")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    only_json_option(parser)


def _demo_options(parser: Parser) -> None:
    parser.description = (
        "Builds two hosts, two leaves and two pods in network namespaces of this machine, with bgpd in hosts and "
        "leaves, takes a leaf's links down and upgrades bgpd while packets are counted, and ends in a shell of a host. "
        "Needs root; changes nothing outside its namespaces, and removes them in the end."
    )
    parser.add_argument(
        "--no-prompt", dest="prompt", action="store_false", help="end after the steps, without a shell to try things in"
    )


def _simulate_options(parser: Parser) -> None:
    parser.description = (
        "Runs the hosts of a containerlab topology with their own configurations, in one process and in simulated "
        "time: all of bgpd is real, links, kernels, leaves and spines are models. Tells of each step of the scenario "
        "how long the fabric took, which addresses could not be reached for how long, and what is wrong afterwards. "
        "Needs no root, no containers and no network."
    )
    parser.epilog = "docs/simulation.md has the steps of scenarios, and what is modelled."
    parser.add_argument("topology", metavar="TOPOLOGY", help="a .clab.yml with bgpd.toml bound into its hosts")
    parser.add_argument(
        "scenario",
        metavar="SCENARIO",
        nargs="?",
        help="a TOML file of steps; default: what may break, one by one",
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="of all that is random; default: 0")
    parser.add_argument(
        "--max-lost",
        metavar="SECONDS",
        type=no_or_some_seconds,
        help="exit code 1 if an address is unreachable for longer because of a step that says nothing else of it",
    )
    only_json_option(parser)


def _plan_options(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    set_option(parser)
    json_option(parser)


def _reload_options(parser: Parser) -> None:
    json_option(parser)
    what = "try it so long: it goes back by itself unless bgpd confirm comes before"
    parser.add_argument("--confirm", metavar="TIME", type=span_s, help=what)


_FILTER_HELP = {
    "neighbor": "only of this neighbor (name)",
    "name": "only of this name or ID",
    "prefix": "only this prefix",
    "longer_prefixes": "with --prefix: all inside it too",
    "family": "ipv4-unicast, ipv6-unicast, l2vpn-evpn or route-target",
    "vrf": "only this VRF",
    "state": "only in this state",
    "source": "only from this source",
    "type": "EVPN route type, such as 2 or 5",
    "mac": "only this MAC address",
    "rd": "only this route distinguisher",
    "unresolved": "only routes whose next hop does not resolve",
    "rejected": "only routes that are not used, with the reason",
    "since": "only from then on: 10m, 2h or 3d ago, 02:51, 2026-11-27T02:51",
    "until": "only up to then",
    "level": "only of this level and above: info, warning, error",
    "event": "only of this name, or whose name begins so: session, bfd.down",
}
_FILTER_KINDS: dict[str, dict[str, object]] = {
    "longer_prefixes": {"action": "store_true"},
    "unresolved": {"action": "store_true"},
    "rejected": {"action": "store_true"},
    "type": {"type": int, "metavar": "N"},
    "since": {"type": moment, "metavar": "TIME"},
    "until": {"type": moment, "metavar": "TIME"},
}


def _show_options(parser: Parser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, shown in SHOWN.items():
        one = kind.removesuffix("s")
        aliases = [one] if one != kind else []
        fill = partial(_listing_options, kind=kind)
        listing = kinds.add_parser(kind, aliases=aliases, help=shown.help, description=shown.help, fill=fill)
        listing.set_defaults(kind=kind)


def _listing_options(listing: Parser, *, kind: str) -> None:
    shown = SHOWN[kind]
    what = "|".join(name.upper() for name in shown.subject)
    listing.add_argument("subject", metavar=what, nargs="?", help=f"only of this {what.replace('|', ' or ').lower()}")
    listing_options(listing)
    for name in shown.filters:
        settings = _FILTER_KINDS.get(name, {"metavar": name.upper()})
        listing.add_argument(f"--{name.replace('_', '-')}", help=_FILTER_HELP[name], **settings)
    if kind == "events":
        what = "read the journal's file, of a daemon that does not run: /var/lib/bgpd/journal.sqlite"
        listing.add_argument("--file", metavar="FILE", help=what)
        listing.add_argument("--changes", help=argparse.SUPPRESS)
        listing.add_argument("--state", help=argparse.SUPPRESS)
    if kind in ("routes", "evpn", "workloads", "services"):
        listing.add_argument("--at", metavar="TIME", type=moment, help="as it was: 10m (ago), 02:51, 2026-11-27T02:51")
        what = "with --at: of a daemon that does not run, by its state directory: /var/lib/bgpd"
        listing.add_argument("--directory", metavar="DIRECTORY", help=what)
        listing.add_argument("--past", help=argparse.SUPPRESS)
    listing.add_argument("--limit", type=count, metavar="N", default=0, help="at most N")


def _status_options(parser: Parser) -> None:
    view_options(parser)
    parser.add_argument("--past", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)


def _explain_options(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="an address, or the name of a workload or service")
    parser.add_argument("--vrf", metavar="VRF", default="", help=_IN_A_VRF)
    when = "as it was: 10m (ago), 02:51, 2026-11-27T02:51"
    parser.add_argument("--at", metavar="TIME", type=moment, help=when)
    parser.add_argument(
        "--wire", action="store_true", help="the UPDATE that each path came in, and what became of them"
    )
    what = "with --at: of a daemon that does not run, by its state directory: /var/lib/bgpd"
    parser.add_argument("--state", metavar="DIRECTORY", help=what)
    parser.add_argument("--no-events", action="store_true", help=argparse.SUPPRESS)
    view_options(parser)


def _why_not_options(parser: Parser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", help="a prefix or an address")
    parser.add_argument("--neighbor", metavar="NAME", default="", help="only as to this neighbor")
    parser.add_argument("--vrf", metavar="VRF", default="", help=_IN_A_VRF)
    view_options(parser)


def _what_if_options(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--down", metavar="NAME", default="", help="a neighbor or an interface would be down")
    help = f"this configuration would be in force; default: {DEFAULT_CONFIG}"
    what.add_argument("--reload", metavar="FILE", nargs="?", const=DEFAULT_CONFIG, help=help)
    what.add_argument("--drain", action="store_true", help="the host would be drained")
    parser.add_argument("--all", action="store_true", help="with --drain: workloads would be withdrawn too")
    parser.add_argument("--force", action="store_true", help="with --drain: also services that no other host announces")
    json_option(parser)


def _decode_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, as it does without")
    parser.add_argument(
        "hex", metavar="HEX", nargs="+", help='a message, or "-" for one on each line of standard input'
    )
    parser.add_argument("--session", choices=("ebgp", "ibgp"), default="ebgp", help="default: ebgp")
    parser.add_argument("--two-octet-as", action="store_true", help="the session has no 4-octet AS numbers")
    parser.add_argument("--add-path", action="store_true", help="NLRI have path identifiers (RFC 7911)")
    parser.add_argument("--extended-next-hop", action="store_true", help="IPv6 next hops for IPv4 (RFC 8950)")


def _bundle_options(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default="", help="default: bgpd-bundle-HOST-TIME.tar.gz")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why it is taken; it stands in the bundle")
    json_option(parser)


def _schema_options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="config, workload, service, sync, status, or a view's name")


def _completion_options(parser: Parser) -> None:
    parser.description = "Print the completion of a shell: of commands, options, and of what the running daemon has."
    parser.epilog = (
        "bash: bgpd completion bash > /usr/share/bash-completion/completions/bgpd; "
        "zsh: bgpd completion zsh > /usr/share/zsh/vendor-completions/_bgpd; "
        "fish: bgpd completion fish > /usr/share/fish/vendor_completions.d/bgpd.fish"
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    what = "after --: what is typed so far, up to the cursor; print what may follow, as the completion asks"
    parser.add_argument("words", metavar="WORD", nargs="*", help=what)


def _man_options(parser: Parser) -> None:
    parser.description = (
        "Write the manual pages: bgpd(1), one for each command, and bgpd.toml(5), below DIRECTORY/man1 and "
        "DIRECTORY/man5."
    )
    parser.epilog = "Their date is that of SOURCE_DATE_EPOCH, if it is set."
    parser.add_argument("directory", metavar="DIRECTORY", help="/usr/local/share/man, for example")


def _workload_options(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="announce a workload, or change it")
    add.add_argument("id", metavar="ID", help=_NAME)
    add.add_argument("--address", metavar="PREFIX", action="append", help="may be given several times")
    add.add_argument("--interface", metavar="INTERFACE", help="that leads to it")
    add.add_argument("--mac", metavar="MAC", help="announced by EVPN with its address")
    add.add_argument("--vrf", metavar="VRF", help=_IN_A_VRF)
    add.add_argument("--kind", choices=("pod", "vm", "bare-metal"), help="what it is; nothing depends on it")
    add.add_argument("--sticky", action="store_true", help="its MAC must not move to another host")
    add.add_argument("--exception", action="store_true", help="moved here from another host's block")
    add.add_argument("--file", metavar="FILE", help='JSON payload instead of options; "-" is standard input')
    _object_actions(add, actions, "bgpd.cli.orders:add_workload", "workloads")


def _service_options(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="announce a service, or change it")
    add.add_argument("id", metavar="NAME", help=_NAME)
    add.add_argument("file", metavar="FILE", help='JSON payload (bgpd schema service); "-" is standard input')
    _object_actions(add, actions, "bgpd.cli.orders:add_service", "services")


def _evpn_options(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    clear = actions.add_parser("clear", help="end the freeze of a MAC (duplicate detection)")
    clear.add_argument("mac", metavar="MAC", help="as bgpd show vrfs has it")
    json_option(clear)


def _drain_options(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    on = actions.add_parser("on", help="take this host out of service")
    on.add_argument("--for", metavar="TIME", type=span_s, dest="for_s", help="30m, 2h, 1d: end it by itself then")
    on.add_argument("--wait", action="store_true", help="until its traffic has gone; exit code 1 if it has not")
    on.add_argument("--timeout", metavar="TIME", type=span_s, default=300, help="of --wait; default: 300s")
    on.add_argument("--all", action="store_true", help="withdraw workloads too, not only services")
    on.add_argument("--force", action="store_true", help="also services that no other host is seen to announce")
    on.add_argument("--shutdown", action="store_true", help="the host goes down (drain.on_shutdown): --all --force")
    json_option(on)
    on.set_defaults(runs="bgpd.cli.drain:on")
    off = actions.add_parser("off", help="bring it back")
    json_option(off)
    off.set_defaults(runs="bgpd.cli.drain:off")
    status = actions.add_parser("status", help="how far it is, and what still flows")
    view_options(status)
    status.set_defaults(runs="bgpd.cli.drain:status")


def _object_actions(add: Parser, actions: Commands, runs: str, kind: str) -> None:
    json_option(add)
    add.add_argument("--timeout", metavar="S", type=wait_s, help="seconds to wait until it is announced; 0 to 600")
    add.set_defaults(runs=runs)
    remove = actions.add_parser("del", help="withdraw it and forget it")
    remove.add_argument("id", metavar="ID", help=_NAME)
    json_option(remove)
    remove.set_defaults(runs="bgpd.cli.orders:delete")
    listing = actions.add_parser("list", help=f"the same as bgpd show {kind}")
    listing_options(listing)
    filters = dict.fromkeys(SHOWN[kind].filters)
    listing.set_defaults(runs="bgpd.cli.show:show", kind=kind, subject=None, limit=0, **filters)


COMMANDS: dict[str, Command] = {
    "run": Command("run the daemon", _start_options, "bgpd.cli.files:run"),
    "check": Command("check a configuration file", _check_options, "bgpd.cli.files:check"),
    "init": Command("a first configuration, by what is seen of this machine", _init_options, "bgpd.cli.migrate:init"),
    "import": Command("a configuration from another program's", _import_options, "bgpd.cli.migrate:import_"),
    "plan": Command("what a reload with this file would do", _plan_options, "bgpd.cli.files:plan"),
    "reload": Command("read the configuration again and apply it", _reload_options, "bgpd.cli.files:reload"),
    "confirm": Command("keep the configuration that is on trial", json_option, "bgpd.cli.files:confirm"),
    "upgrade": Command("become the version that is installed", _upgrade_options, "bgpd.cli.upgrade:upgrade"),
    "flush": Command(
        "take all of bgpd's out of the kernel, once it is stopped", _flush_options, "bgpd.cli.files:flush"
    ),
    "top": Command("the host on one live screen", json_option, "bgpd.cli.top:top"),
    "status": Command("whether the host is ready, and why not", _status_options, "bgpd.cli.show:status"),
    "show": Command("what the daemon knows", _show_options, "bgpd.cli.show:show"),
    "explain": Command("the path of an address, and why", _explain_options, "bgpd.cli.show:explain"),
    "why-not": Command("what keeps a prefix from being used or announced", _why_not_options, "bgpd.cli.show:why_not"),
    "what-if": Command("what would become of the routes", _what_if_options, "bgpd.cli.foresee:what_if"),
    "drain": Command("take this host out of service, and back", _drain_options, "bgpd.cli.drain:status"),
    "monitor": Command("events as they happen", json_option, "bgpd.cli.show:monitor"),
    "decode": Command("what bgpd makes of a BGP message in hex", _decode_options, "bgpd.cli.decode:decode"),
    "bundle": Command("what a developer needs to see what is wrong", _bundle_options, "bgpd.cli.bundle:bundle"),
    "mrt": Command("the daemon's routes as an MRT file, and what such a file has", mrt_options, "bgpd.cli.mrt:show"),
    "replay": Command("say the routes of an MRT file to a BGP speaker", replay_options, "bgpd.cli.replay:replay"),
    "schema": Command("JSON Schema of configuration, payloads, views", _schema_options, "bgpd.cli.schemas:schema"),
    "workload": Command("workloads of the local API", _workload_options, "bgpd.cli.orders:add_workload"),
    "service": Command("services of the local API", _service_options, "bgpd.cli.orders:add_service"),
    "evpn": Command("MACs of this host that are frozen", _evpn_options, "bgpd.cli.orders:clear_mac"),
    "completion": Command(
        "what makes a shell complete bgpd's commands", _completion_options, "bgpd.cli.completion:main"
    ),
    "man": Command("write the manual pages", _man_options, "bgpd.cli.man:man"),
    "demo": Command(
        "two hosts and two leaves on this machine, shown in half a minute", _demo_options, "bgpd.cli.demo:demo"
    ),
    "simulate": Command(
        "what a fabric does when things break, in simulated time", _simulate_options, "bgpd.simulation.command:main"
    ),
    "version": Command("print the version", only_json_option, "bgpd.cli.main:version"),
}


def main(arguments: Sequence[str] | None, hooks: Hooks) -> int:
    """Runs one command; the exit code."""
    try:
        code = _outcome(arguments, hooks)
    except SystemExit as ended:  # help, the version, wrong usage
        if end_output():
            raise
        raise SystemExit(ended.code or FAILED) from None
    return code if end_output() else code or FAILED


def _outcome(arguments: Sequence[str] | None, hooks: Hooks) -> int:
    is_closed = stand_in_for_closed_output()
    parsed, is_daemon = argparse.Namespace(), False
    try:
        given = sys.argv[1:] if arguments is None else arguments
        parsed = make_parser().parse_args(given)
        is_daemon = parsed.command == "run"
        if is_closed and not is_daemon:
            tell("the output cannot be written: standard output is closed")
            return FAILED
        if hasattr(parsed, "socket"):
            refuse_empty(given)
        return _run(parsed, hooks)
    except CommandFailed as failure:
        tell(str(failure))
        return WRONG_USAGE if isinstance(failure, WrongUsage) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if is_daemon:
            raise
        drop(sys.stdout, error)
        return FAILED
    except (LookupError, TypeError, AttributeError, ValueError):  # it may be of an answer's form
        other = None if is_daemon or not hasattr(parsed, "socket") else other_daemon(parsed.socket)
        if other is None:
            raise
        tell(str(other))
        return FAILED


def _run(parsed: argparse.Namespace, hooks: Hooks) -> int:
    if parsed.command != "run":
        write_what_fits()
    module, _, function = parsed.runs.partition(":")
    command = partial(getattr(import_module(module), function), parsed, hooks)
    if getattr(parsed, "watch", None) is None:
        progress.is_wanted = parsed.command not in ("run", "top", "monitor")
        return int(command())
    from bgpd.cli.watch import watch

    form = getattr(parsed, "format", None) or ("json" if parsed.json else "")
    if form == "csv":
        raise WrongUsage("--watch and --format csv do not go together", "--watch --json writes one array after another")
    return watch(command, every_s=parsed.watch, title=" ".join(["bgpd", *sys.argv[1:]]), is_data=form == "json")


def version(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd version`."""
    print(json.dumps({"version": __version__, "form": form()}) if arguments.json else described_version())
    return 0


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="bgpd", description="BGP-EVPN routing daemon for servers")
    parser.add_argument("--version", action="version", version=described_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help, description=command.help, fill=command.options)
        own.set_defaults(runs=command.runs)
    return parser
