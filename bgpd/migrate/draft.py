"""A configuration in the making: tables with values, where each value came from, and what could not be taken over.

`bgpd init` and all importers fill one of these; `toml_writer` makes the text of it. A remark stands in the text, above
the table or beside the key that it is about; a loss stands there too, and is told on standard error with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec


class Variable(str):
    """A text whose variables (${hostname}) are meant; in any other text "${" is only text."""

    __slots__ = ()


AUTOMATIC = "auto"
"""An AS number or a router ID that bgpd works out on the host."""

Value = bool | int | str | list[Any] | dict[str, Any]


class Place(msgspec.Struct, frozen=True):
    """Where something stands in a file that was read; line 0 is the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Loss(msgspec.Struct, frozen=True):
    """What was not taken over, or means something else now: where it stood, what it is, what to do about it."""

    place: Place
    what: str
    right: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}{f'; {self.right}' if self.right else ''}"


_AS_ITS_OWN = "correct the file; does the program that it is for take it?"


class ImportFailed(Exception):
    """A file that cannot be read as what it should be; `right` is what to do about it."""

    def __init__(self, place: Place, what: str, right: str = _AS_ITS_OWN) -> None:
        super().__init__(str(Loss(place, what, right)))


class Table:
    """One table of the configuration: values by key, each with a comment, and lines that stand above it.

    `is_proposal`: all of it is commented out, for a person to decide.
    """

    def __init__(self, section: str, *, is_list: bool = False, is_proposal: bool = False) -> None:
        self.section = section
        self.is_list = is_list
        self.is_proposal = is_proposal
        self.values: dict[str, Value] = {}
        self.comments: dict[str, str] = {}
        self.above: list[str] = []
        self.proposed: dict[str, tuple[Value, str]] = {}

    def put(self, key: str, value: Value, comment: object = "") -> None:
        """Give a key its value; a later one takes the place of an earlier one."""
        self.values[key] = value
        self.comments[key] = str(comment)
        self.proposed.pop(key, None)

    def propose(self, key: str, value: Value, comment: object = "") -> None:
        """A key that stands in the text commented out."""
        self.values.pop(key, None)
        self.proposed[key] = value, str(comment)

    def drop(self, key: str) -> None:
        """Take a key away."""
        self.values.pop(key, None)
        self.comments.pop(key, None)

    def remark(self, text: object) -> None:
        """A comment above the table; each once."""
        if str(text) not in self.above:
            self.above.append(str(text))

    def text(self, key: str) -> str:
        """The value of a key that holds a text; "" if it has none."""
        value = self.values.get(key, "")
        return value if isinstance(value, str) else ""


class Secret(msgspec.Struct, frozen=True):
    """A password that a file had in it, for the file that `password_file` of a table will name."""

    table: Table
    file_name: str
    password: str
    place: Place


class Draft:
    """All tables of a configuration, in the order in which they were made."""

    def __init__(self, *head: str) -> None:
        self.head = list(head)
        self.tables: list[Table] = []
        self.losses: list[Loss] = []
        self._told: set[Loss] = set()
        self.left_over: list[str] = []
        self.secrets: list[Secret] = []

    def section(self, name: str) -> Table:
        """The table of a section that there is once; made if it is not there yet."""
        for table in self.tables:
            if table.section == name and not table.is_list and not table.is_proposal:
                return table
        return self._added(Table(name))

    def add(self, name: str, *, is_proposal: bool = False) -> Table:
        """One more table of a section that there may be several of."""
        return self._added(Table(name, is_list=True, is_proposal=is_proposal))

    def propose(self, name: str) -> Table:
        """A section that stands in the text commented out."""
        return self._added(Table(name, is_proposal=True))

    def of(self, name: str) -> list[Table]:
        """The tables of a section that are in force, in order."""
        return [table for table in self.tables if table.section == name and not table.is_proposal]

    def lose(self, place: Place, what: str, right: str = "", *, at: Table | None = None) -> None:
        """Something that is not taken over, or not as it was: told, and written above `at` or at the end."""
        loss = Loss(place, what, right)
        if loss in self._told:
            return
        self._told.add(loss)
        self.losses.append(loss)
        if at is not None:
            at.remark(loss)
        else:
            self.left_over.append(str(loss))

    def policy(self, name: str, rules: list[dict[str, Any]], comment: object = "") -> str:
        """The name of the policy with these rules: one that is there already, or a new one."""
        for table in self.of("policy"):
            if table.values["rules"] == rules:
                return str(table.values["name"])
        taken = {table.values["name"] for table in self.of("policy")}
        table = Table("policy")
        table.put("name", _free_name(_policy_name(name), taken))
        table.put("rules", list(rules))
        if comment:
            table.remark(comment)
        self.tables.append(table)
        return str(table.values["name"])

    def config(self) -> dict[str, Any]:
        """What a reader of the text finds: nested tables, as `tomllib` has them."""
        found: dict[str, Any] = {}
        for table in self.tables:
            if not table.is_proposal:
                _file_table(found, table)
        return found

    def _added(self, table: Table) -> Table:
        self.tables.append(table)
        return table


BUILT_IN_POLICIES = ("none", "default-only", "all", "local")


def _policy_name(wanted: str) -> str:
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "_-") else "-" for one in wanted)[:64].strip("-")
    return f"{kept}-policy" if kept in BUILT_IN_POLICIES or not kept else kept


def _free_name(wanted: str, taken: set[Any]) -> str:
    return next(name for name in _numbered(wanted) if name not in taken)


def _numbered(wanted: str) -> Iterator[str]:
    yield wanted
    number = 2
    while True:
        yield f"{wanted}-{number}"
        number += 1


def neighbor_name(draft: Draft, wanted: str) -> str:
    """A name for a neighbor that no other one has, of characters that a name may have."""
    kept = "".join("-" if one in "/\\" or not one.isprintable() else one for one in wanted).strip()[:64].strip()
    taken = {table.values.get("name") for table in draft.of("neighbor")}
    return _free_name(kept or "neighbor", taken)


def put_max_prefixes(draft: Draft, table: Table, most: int, place: Place, what: object) -> None:
    """`max_prefixes`, which is one number for each family: where families have different ones, the larger, told."""
    before = table.values.get("max_prefixes")
    if isinstance(before, int) and before != most:
        draft.lose(place, f'"{what}": families have different limits; here {max(before, most)} for each', at=table)
        most = max(before, most)
    table.put("max_prefixes", most, f"{place}: {what}")


def _file_table(found: dict[str, Any], table: Table) -> None:
    *outer, last = table.section.split(".")
    inside = found
    for part in outer:
        inside = inside.setdefault(part, {})
    if table.section == "policy":
        values = {key: value for key, value in table.values.items() if key != "name"}
        inside.setdefault("policy", {})[table.values["name"]] = values
    elif table.is_list:
        inside.setdefault(last, []).append(dict(table.values))
    else:
        inside.setdefault(last, {}).update(table.values)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested settings as one; what the second says counts."""
    joined = dict(first)
    for key, value in second.items():
        before = joined.get(key)
        joined[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return joined
