"""The scenario of a user: a TOML file of steps, each of which says what happens to a node, a link or an address."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bgpd.config.shape import nearest
from bgpd.config.toml_errors import text_error
from bgpd.config.toml_lines import key_lines, line_of
from bgpd.migrate.draft import ImportFailed, Place
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.simulation import guests
from bgpd.simulation.clab import listed
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.interfaces import takes_workloads
from bgpd.workload.feed.payload import PayloadRefused, decode_service, decode_workload


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`do`: one of ACTIONS. `after_s`: so long after the step before began; None: once all is at rest. `max_lost_s`:
    for so long addresses may be unreachable because of it; None: for any time."""

    do: str
    node: str = ""
    link: tuple[str, str] = ("", "")
    address: str = ""
    vrf: str = ""
    mac: str = ""
    topic: str = ""
    file: str = ""
    loss: float = 0.1
    down_s: float = 1.0
    graceful: bool = True
    after_s: float | None = None
    max_lost_s: float | None = None

    @property
    def body(self) -> bytes:
        """What is in its file; b"" without one."""
        return Path(self.file).read_bytes() if self.file else b""

    def __str__(self) -> str:
        action = ACTIONS[self.do]
        shown = {**msgspec.structs.asdict(self), "link": " - ".join(self.link), "file": Path(self.file).name}
        words = [self.do, *(str(shown[key]) for key in action.needs if key in _SHOWN)]
        if self.do == "link-deaf":
            words[-1] = f"({self.node} hears nothing)"
        if self.vrf:
            words.append(f"of {self.vrf}")
        if not self.graceful:
            words.append("without graceful restart")
        return " ".join(words)


class Action(NamedTuple):
    """What a step may do: what it is, and which keys it needs and may have."""

    what: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


ACTIONS = {
    "link-down": Action("the link goes down, and both ends see it", ("link",)),
    "link-up": Action("the link is whole again, whatever was wrong with it", ("link",)),
    "link-deaf": Action("nothing that is sent over the link to the node arrives, and nobody sees it", ("link", "node")),
    "link-lossy": Action("a share `loss` of what is sent is lost, both ways", ("link",), ("loss",)),
    "link-flaps": Action("the link goes down and up twice within a tenth of a second", ("link",)),
    "dies": Action("a router or guest stops, or a host loses power: without a word, and its links stay up", ("node",)),
    "boots": Action("a node that died starts again; workloads of a host come by `claim`", ("node",)),
    "restart": Action("bgpd, or BGP of a router or guest, is down for `down_s`", ("node",), ("down_s", "graceful")),
    "kill": Action("bgpd is killed, and started again after `down_s`", ("node",), ("down_s",)),
    "hand-over": Action("bgpd hands its sessions over to a new process, in `down_s`", ("node",), ("down_s",)),
    "drain": Action("bgpd drain on", ("node",)),
    "undrain": Action("bgpd drain off", ("node",)),
    "reload": Action("bgpd, or a router, takes over another configuration", ("node", "file")),
    "bfd-dies": Action(
        "the BFD process of the host ends without a word, and is there again after `down_s`", ("node",), ("down_s",)
    ),
    "broker-dies": Action("the MQTT broker stops, and is there again after `down_s`", (), ("down_s",)),
    "broker-loses-all": Action("the same, and it has lost its disk: the orchestrator says all again", (), ("down_s",)),
    "publish": Action(
        "a message of the orchestrator, a file of JSON: `topic` is workloads/NAME or services/NAME of the host",
        ("node", "topic", "file"),
    ),
    "unpublish": Action("it deletes that message", ("node", "topic")),
    "backend-fails": Action("no check of a service's backend at the address succeeds any more", ("node", "address")),
    "backend-works": Action("they succeed again", ("node", "address")),
    "claim": Action(
        "a workload with the address comes to the host; to one that is dead none comes",
        ("node", "address"),
        ("vrf", "mac"),
    ),
    "release": Action("it goes", ("node", "address"), ("vrf",)),
    "move": Action("it goes from wherever it is, and comes to the host", ("node", "address"), ("vrf", "mac")),
    "wait": Action("nothing happens", ()),
}
"""The words of `do`."""
_ALWAYS = ("do", "after_s", "max_lost_s")
_SHOWN = ("link", "node", "address", "topic", "file")
_LIKENESS = 0.7
"""How near a word must be to what is known for it to be what was meant."""
_NUMBERS = {"loss": "write a share, such as 0.1", "down_s": "write seconds, such as 2.5"}
_NUMBERS |= dict.fromkeys(("after_s", "max_lost_s"), _NUMBERS["down_s"])
_OF_ROUTERS = ("dies", "boots", "restart", "link-deaf", "reload")
"""What can be done to routers as well as hosts."""
_OF_THE_LIVING = ("restart", "kill", "hand-over", "drain", "undrain", "reload", "bfd-dies", "dies")
"""What cannot be done to a node that is dead."""
_MOST_S = 86_400
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ADDRESSES = ("203.0.113.1/32", "203.0.113.2/32")
"""Of workloads where a topology has none (RFC 5737)."""


def read_steps(file: str, fabric: Fabric) -> list[Step]:
    """The steps of a file, for this fabric. Raises: ImportFailed: it cannot be read, or has an error."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        right = "a scenario is a file of TOML; without one there are standard steps"
        raise ImportFailed(Place(file), f"cannot be read: {error.strerror}", right) from None
    except UnicodeDecodeError:
        raise ImportFailed(Place(file), "is no text in UTF-8", "a scenario is TOML") from None
    except (ValueError, RecursionError) as error:
        wrong = text_error(error, text)
        raise ImportFailed(Place(file, wrong.line), wrong.what, wrong.hint) from None
    return list(_Reader(file, text, fabric).read(data))


class _Reader:
    def __init__(self, file: str, text: str, fabric: Fabric) -> None:
        self._file = file
        self._lines = key_lines(text)
        self._fabric = fabric
        self._at: tuple[str | int, ...] = ()
        self._dead: dict[str, int] = {}
        """Nodes that are dead, by the steps read so far, and in which line each has died."""

    def _fail(self, key: str, what: str, right: str) -> ImportFailed:
        path = (*self._at, key) if key else self._at
        return ImportFailed(Place(self._file, line_of(self._lines, path)), what, right)

    def read(self, data: dict[str, Any]) -> Iterator[Step]:
        """The steps of a scenario, in order."""
        most_s = self._expect(data.pop("expect", {}))
        for key in data:
            if key != "step":
                is_of_step = key in msgspec.structs.asdict(Step(do="wait"))
                right = (
                    "write it below [[step]]"
                    if is_of_step
                    else "a scenario has [[step]], one for each step, and [expect]"
                )
                raise self._fail(key, f'there is no key "{key}"', right)
        steps = data.get("step", [])
        if isinstance(steps, dict):
            raise self._fail("step", "[step] is one table", "write [[step]], with two brackets, for each step")
        if not isinstance(steps, list) or not steps or not all(isinstance(one, dict) for one in steps):
            raise self._fail("step", "has no steps", 'write [[step]] with do = "link-down" and so on')
        for number, one in enumerate(steps):
            self._at = ("step", number)
            step = self._step(one)
            yield step if step.max_lost_s is not None else msgspec.structs.replace(step, max_lost_s=most_s)

    def _expect(self, table: Any) -> float | None:
        """What [expect] says for all steps that say nothing themselves."""
        self._at = ("expect",)
        if not isinstance(table, dict):
            raise self._fail("", "expect is no table", "write [expect] with max_lost_s = 1")
        for key in table:
            if key != "max_lost_s":
                raise self._fail(key, f'expect has no key "{key}"', "it has max_lost_s")
        found: float | None = self._value("max_lost_s", table["max_lost_s"]) if table else None
        self._at = ()
        return found

    def _step(self, table: dict[str, Any]) -> Step:
        do = table.get("do", "")
        if not isinstance(do, str):
            raise self._fail("do", f"do = {do} is no text", _choice("", list(ACTIONS)))
        if do not in ACTIONS:
            right = _choice(do, list(ACTIONS))
            raise self._fail("do", f'do = "{do}" is nothing that can be done' if do else "has no do", right)
        action = ACTIONS[do]
        known = (*_ALWAYS, *action.needs, *action.may)
        for key in table:
            if key not in known:
                raise self._fail(key, f'{do} has no key "{key}"', _choice(key, list(known)))
        for key in action.needs:
            if key not in table:
                raise self._fail("", f"{do} needs {key}", f"{do}: {action.what}")
        values = {key: self._value(key, value) if key != "do" else value for key, value in table.items()}
        self._check(Step(**values))
        return Step(**values)

    def _value(self, key: str, value: Any) -> Any:
        if key in _NUMBERS:
            most = 1 if key == "loss" else _MOST_S
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise self._fail(key, f"{key} = {value!r} is no number from 0 to {most}", _NUMBERS[key])
            return float(value)
        if key == "graceful":
            if not isinstance(value, bool):
                raise self._fail(key, f"graceful = {value!r} is neither true nor false", "write true or false")
            return value
        if key == "link":
            return self._link(value)
        if not isinstance(value, str):
            raise self._fail(key, f"{key} = {value!r} is no text", f'write {key} = "..."')
        return _TEXTS.get(key, _same)(self, value)

    def _link(self, value: Any) -> tuple[str, str]:
        links = self._fabric.links
        if isinstance(value, list):  # perhaps as topologies have them
            value = [str(one).partition(":")[0] for one in value]
        if isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):
            one, two = value
            if (one, two) in links or (two, one) in links:
                return (one, two) if (one, two) in links else (two, one)
        known = [f'["{one}", "{two}"]' for one, two in links]
        raise self._fail("link", f"link = {value} is no link of two nodes that is simulated", _choice("", known))

    def node(self, value: str) -> str:
        """The name of a host, router or guest. Raises: ImportFailed: there is none."""
        known = [*self._fabric.hosts, *self._fabric.routers, *guests.of(self._fabric)]
        if value not in known:
            raise self._fail("node", f'there is no host and no router "{value}"', _choice(value, known))
        return value

    def address(self, value: str) -> str:
        """A prefix, in canonical form. Raises: ImportFailed."""
        try:
            return format_key(*parse_prefix(value))
        except ValueError as error:
            raise self._fail("address", f'address = "{value}" is none: {error}', 'such as "10.64.1.1/32"') from None

    def mac(self, value: str) -> str:
        """A MAC address. Raises: ImportFailed: it is none."""
        if not _MAC.fullmatch(value):
            raise self._fail("mac", f'mac = "{value}" is none', 'such as "02:00:00:00:01:14"')
        return value

    def path(self, value: str) -> str:
        """A file, as seen from the folder of the scenario. Raises: ImportFailed: there is none."""
        path = Path(self._file).parent / value
        if not path.is_file():
            raise self._fail("file", f"there is no file {path}", "name one, as seen from the folder of the scenario")
        return str(path)

    def _check(self, step: Step) -> None:
        """What does not go together."""
        fabric = self._fabric
        if step.node and step.do not in _OF_ROUTERS and step.node not in fabric.hosts:
            raise self._fail("node", f"{step.node} is no host with bgpd", _choice(step.node, list(fabric.hosts)))
        if step.do == "reload" and step.node not in {**fabric.hosts, **fabric.routers}:
            raise self._fail("node", f"{step.node} is a guest", _choice("", [*fabric.hosts, *fabric.routers]))
        if step.vrf:
            self._check_vrf(step)
        if step.do in ("claim", "move") and not takes_workloads(fabric.hosts[step.node], step.vrf):
            of_main = "[workload.kernel] with an interface that it has, [workload.api], or [workload.mqtt]"
            right = "[workload.api]" if step.vrf else of_main
            raise self._fail("node", f"{step.node} has no source of workloads that steps can use", right)
        if step.do == "bfd-dies" and fabric.hosts[step.node].bfd is None:
            right = "one of its neighbors needs bfd = {...}"
            raise self._fail("node", f"{step.node} has no BFD", right)
        if step.do.startswith("broker-") and fabric.orchestrator is None:
            raise self._fail("do", "there is no broker", "a host needs [workload.mqtt]")
        if step.do.endswith("publish"):
            self._check_message(step)
        if step.do == "link-deaf" and step.node not in step.link:
            raise self._fail("node", f"{step.node} is not at that link", f"one of: {', '.join(step.link)}")
        self._check_life(step)

    def _check_life(self, step: Step) -> None:
        """The dead do nothing, and only they boot."""
        name, line = step.node, line_of(self._lines, self._at)
        if step.do == "boots" and name not in self._dead:
            raise self._fail(
                "node", f"{name} is not dead", f'it boots after a step with do = "dies" and node = "{name}"'
            )
        if step.do in _OF_THE_LIVING and name in self._dead:
            what = f"{name} is dead since line {self._dead[name]}"
            raise self._fail("node", what, f'it needs a step before with do = "boots" and node = "{name}"')
        if step.do == "dies":
            self._dead[name] = line
        elif step.do == "boots":
            del self._dead[name]

    def _check_vrf(self, step: Step) -> None:
        vrfs = [one.name for one in self._fabric.hosts[step.node].config.vrf]
        if step.vrf not in vrfs:
            raise self._fail("vrf", f'{step.node} has no VRF "{step.vrf}"', _choice(step.vrf, vrfs))

    def _check_message(self, step: Step) -> None:
        """Of the feed: as bgpd itself checks it."""
        config = self._fabric.hosts[step.node].config
        kind, _, name = step.topic.partition("/")
        if config.workload.mqtt is None:
            raise self._fail("node", f"{step.node} takes no messages", "its configuration needs [workload.mqtt]")
        if kind not in ("workloads", "services") or not name or "/" in name:
            raise self._fail("topic", f'topic = "{step.topic}" is none', 'such as "services/web" or "workloads/vm1"')
        if step.do == "unpublish":
            return
        vrfs = ["", *(one.name for one in config.vrf)]
        try:
            if kind == "workloads":
                decode_workload(step.body, id=name, vrfs=vrfs)
            else:
                decode_service(step.body, name=name, vrfs=vrfs)
        except PayloadRefused as error:
            what = f"{step.file} is no message of {kind}: {error}"
            raise self._fail("file", what, "docs/orchestrator.md has them") from None


def _choice(word: str, known: list[str]) -> str:
    """What was meant, perhaps, and all that there is."""
    near = nearest(word.lower().replace("_", "-"), known, likeness=_LIKENESS) if word else ""
    return f'did you mean "{near}"? {listed(known)}' if near else listed(known) or "there is none"


def _same(_reader: _Reader, value: str) -> str:
    return value


_TEXTS: dict[str, Callable[[_Reader, str], str]] = {
    "node": _Reader.node,
    "address": _Reader.address,
    "mac": _Reader.mac,
    "file": _Reader.path,
}


def standard_steps(fabric: Fabric) -> list[Step]:
    """Without a scenario: what breaks and what is done to the first host, and to the router with the most hosts."""
    hosts = list(fabric.hosts)
    host = hosts[0]
    below = {one: sum(name in fabric.hosts for name in fabric.routers[one].peers) for one in fabric.routers_of(host)}
    router = max(below, key=lambda one: below[one])
    link = (router, host)
    steps = [
        Step(do="link-down", link=link),
        Step(do="link-up", link=link),
        Step(do="link-deaf", link=link, node=host),
        Step(do="link-up", link=link),
        Step(do="dies", node=router),
        Step(do="boots", node=router),
        Step(do="restart", node=router),
        Step(do="restart", node=host),
        Step(do="hand-over", node=host),
        Step(do="kill", node=host),
        Step(do="drain", node=host),
        Step(do="undrain", node=host),
    ]
    if fabric.hosts[host].bfd is not None:
        steps += [Step(do="bfd-dies", node=host)]
    if fabric.orchestrator is not None:
        steps += [Step(do="broker-dies", down_s=5.0), Step(do="broker-loses-all", down_s=5.0)]
    vrf = _vrf_for_all(fabric)
    takers = [name for name in hosts if takes_workloads(fabric.hosts[name], vrf)]
    if not any(host.claims or host.managed or host.machines for host in fabric.hosts.values()):
        claims = [Step(do="claim", node=name, address=one, vrf=vrf) for name, one in zip(takers, _ADDRESSES)]
        steps = [*claims, *steps]
    address = next((one for name in hosts for one in fabric.hosts[name].claims), _ADDRESSES[0])
    if len(takers) > 1:
        moves = (takers[0],) if vrf else ()
        steps += [Step(do="move", node=one, address=address, vrf=vrf) for one in (*moves, takers[-1], takers[0])]
    return steps


def _vrf_for_all(fabric: Fabric) -> str:
    """A VRF of all hosts, where none has a session for addresses of the main table; "" where there is one."""
    hosts = list(fabric.hosts.values())
    if any(one.families != ("l2vpn-evpn",) for host in hosts for one in host.config.neighbor):
        return ""
    names = [{one.name for one in host.config.vrf} for host in hosts]
    return min(set.intersection(*names), default="")
