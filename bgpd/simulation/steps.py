"""The scenario of a user: a TOML file of steps, each of which says what happens to a node, a link or an address."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bgpd.config.shape import did_you_mean
from bgpd.config.toml_errors import text_error
from bgpd.config.toml_lines import key_lines, line_of
from bgpd.migrate.draft import ImportFailed, Place
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.simulation.build import takes_workloads
from bgpd.simulation.fabric import Fabric


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`do`: one of ACTIONS. `after_s`: so long after the step before began; None: once all is at rest."""

    do: str
    node: str = ""
    link: tuple[str, str] = ("", "")
    address: str = ""
    file: str = ""
    loss: float = 0.1
    down_s: float = 1.0
    graceful: bool = True
    after_s: float | None = None

    def __str__(self) -> str:
        action = ACTIONS[self.do]
        shown = {**msgspec.structs.asdict(self), "link": " - ".join(self.link)}
        words = [self.do, *(str(shown[key]) for key in action.needs if key in ("link", "node", "address", "file"))]
        if self.do == "link-deaf":
            words[-1] = f"({self.node} hears nothing)"
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
    "dies": Action("a router stops, or a host loses power: without a word, and its links stay up", ("node",)),
    "boots": Action("a node that died starts again; workloads of a host come by `claim`", ("node",)),
    "restart": Action("bgpd, or a router's BGP, is down for `down_s`", ("node",), ("down_s", "graceful")),
    "kill": Action("bgpd is killed, and started again after `down_s`", ("node",), ("down_s",)),
    "hand-over": Action("bgpd hands its sessions over to a new process, in `down_s`", ("node",), ("down_s",)),
    "drain": Action("bgpd drain on", ("node",)),
    "undrain": Action("bgpd drain off", ("node",)),
    "reload": Action("bgpd reloads another configuration", ("node", "file")),
    "claim": Action(
        "a workload with the address comes to the host; to one that is dead none comes", ("node", "address")
    ),
    "release": Action("it goes", ("node", "address")),
    "move": Action("it goes from wherever it is, and comes to the host", ("node", "address")),
    "wait": Action("nothing happens", ()),
}
"""The words of `do`."""
_ALWAYS = ("do", "after_s")
_NUMBERS = ("loss", "down_s", "after_s")
_MOST_S = 86_400
_ADDRESSES = ("203.0.113.1/32", "203.0.113.2/32")
"""Of workloads where a topology has none (RFC 5737)."""


def read_steps(file: str, fabric: Fabric) -> list[Step]:
    """The steps of a file, for this fabric. Raises: ImportFailed: it cannot be read, or has an error."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ImportFailed(Place(file), f"cannot be read: {error.strerror}") from None
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

    def _fail(self, key: str, what: str, right: str) -> ImportFailed:
        path = (*self._at, key) if key else self._at
        return ImportFailed(Place(self._file, line_of(self._lines, path)), what, right)

    def read(self, data: dict[str, Any]) -> Iterator[Step]:
        for key in data:
            if key != "step":
                raise self._fail(key, f'there is no key "{key}"', "a scenario has [[step]] only")
        steps = data.get("step", [])
        if not isinstance(steps, list) or not steps or not all(isinstance(one, dict) for one in steps):
            raise self._fail("step", "has no steps", 'write [[step]] with do = "link-down" and so on')
        for number, one in enumerate(steps):
            self._at = ("step", number)
            yield self._step(one)

    def _step(self, table: dict[str, Any]) -> Step:
        do = table.get("do", "")
        if not isinstance(do, str) or do not in ACTIONS:
            right = did_you_mean(str(do), list(ACTIONS))
            raise self._fail("do", f'do = "{do}" is nothing that can be done' if do else "has no do", right)
        action = ACTIONS[do]
        for key in action.needs:
            if key not in table:
                raise self._fail("", f"{do} needs {key}", f"{do}: {action.what}")
        known = (*_ALWAYS, *action.needs, *action.may)
        values: dict[str, Any] = {"do": do}
        for key, value in table.items():
            if key not in known:
                raise self._fail(key, f'{do} has no key "{key}"', did_you_mean(key, list(known)))
            if key != "do":
                values[key] = self._value(key, value)
        self._check(Step(**values))
        return Step(**values)

    def _value(self, key: str, value: Any) -> Any:
        if key in _NUMBERS:
            most = 1 if key == "loss" else _MOST_S
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise self._fail(key, f"{key} = {value!r} is no number from 0 to {most}", "write a number")
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
        if isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):
            one, two = value
            if (one, two) in links or (two, one) in links:
                return (one, two) if (one, two) in links else (two, one)
        known = ", ".join(f'["{one}", "{two}"]' for one, two in links)
        raise self._fail("link", f"link = {value} is no link of two nodes that is simulated", f"one of: {known}")

    def node(self, value: str) -> str:
        if value not in self._fabric.hosts and value not in self._fabric.routers:
            known = [*self._fabric.hosts, *self._fabric.routers]
            raise self._fail("node", f'there is no host and no router "{value}"', did_you_mean(value, known))
        return value

    def address(self, value: str) -> str:
        try:
            return format_key(*parse_prefix(value))
        except ValueError as error:
            raise self._fail("address", f'address = "{value}" is none: {error}', 'such as "10.64.1.1/32"') from None

    def path(self, value: str) -> str:
        path = Path(self._file).parent / value
        if not path.is_file():
            raise self._fail("file", f"there is no file {path}", "name one, as seen from the folder of the scenario")
        return str(path)

    def _check(self, step: Step) -> None:
        """What does not go together."""
        fabric = self._fabric
        is_of_hosts = ("kill", "hand-over", "drain", "undrain", "reload", "claim", "release", "move")
        if step.do in is_of_hosts and step.node not in fabric.hosts:
            raise self._fail("node", f"{step.node} is no host with bgpd", did_you_mean(step.node, list(fabric.hosts)))
        if step.do in ("claim", "move") and not takes_workloads(fabric.hosts[step.node]):
            right = "[workload.kernel] with an interface that it has, or [workload.api]"
            raise self._fail("node", f"{step.node} has no source of workloads that steps can use", right)
        if step.do == "link-deaf" and step.node not in step.link:
            raise self._fail("node", f"{step.node} is not at that link", f"one of: {', '.join(step.link)}")


def _same(_reader: _Reader, value: str) -> str:
    return value


_TEXTS: dict[str, Callable[[_Reader, str], str]] = {
    "node": _Reader.node,
    "address": _Reader.address,
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
    takers = [name for name in hosts if takes_workloads(fabric.hosts[name])]
    if not any({*fabric.hosts[name].claims, *fabric.hosts[name].managed} for name in hosts):
        claims = [Step(do="claim", node=name, address=one) for name, one in zip(takers, _ADDRESSES)]
        steps = [*claims, *steps]
    address = next((one for name in hosts for one in fabric.hosts[name].claims), _ADDRESSES[0])
    if len(takers) > 1:
        steps += [Step(do="move", node=takers[-1], address=address), Step(do="move", node=takers[0], address=address)]
    return steps
