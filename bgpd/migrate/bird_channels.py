"""What a BIRD channel lets in and out as a policy: "import", "export", limits, and what the kernel protocol takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bgpd.migrate.bird_filter import Definitions, Told, read_condition, read_filter, with_own_prepends
from bgpd.migrate.bird_text import Statement, Token, split_statements
from bgpd.migrate.draft import Draft, Place, Table, put_max_prefixes
from bgpd.migrate.filters import (
    ACCEPT,
    REJECT,
    Branch,
    Condition,
    End,
    Inexpressible,
    Match,
    compile_rules,
    followed_by,
    named_policy,
)
from bgpd.migrate.filters import (
    Statement as FilterStatement,
)

FAMILIES = {"ipv4": "ipv4-unicast", "ipv6": "ipv6-unicast"}
_LIMIT_ACTIONS = {"restart": "reset", "disable": "reset", "block": "discard"}


class Channel(msgspec.Struct):
    """One channel of a protocol: its statements, those of its template first."""

    kind: str
    place: Place
    statements: list[Statement]

    def last(self, *words: str) -> Statement | None:
        """The last statement that begins with these words: it counts."""
        return next((one for one in reversed(self.statements) if one.starts(*words)), None)

    def direction(self, word: str) -> Statement | None:
        """The last "import ..." or "export ..." that says what passes, and no limit or table."""
        found = [one for one in self.statements if one.starts(word) and not _is_other(one)]
        return found[-1] if found else None


def _is_other(statement: Statement) -> bool:
    texts = statement.texts()
    return texts[1:2] in (["limit"], ["table"], ["keep"]) or "limit" in texts[:3]


def channels_of(statements: list[Statement]) -> dict[str, Channel]:
    """The channels among the statements of a protocol; a later one of the same kind adds to the first."""
    found: dict[str, Channel] = {}
    for statement in statements:
        texts = statement.texts()
        if not texts or texts[0] not in ("ipv4", "ipv6", "evpn", "vpn4", "vpn6", "flow4", "flow6", "mpls", "eth"):
            continue
        kind = texts[0] if texts[1:2] in ([], ["unicast"]) else " ".join(texts[:2])
        channel = found.setdefault(kind, Channel(kind, statement.place, []))
        if statement.block is not None:
            channel.statements += split_statements(statement.block)
    return found


class PolicyReader:
    """Policies of one neighbor's channels."""

    def __init__(self, draft: Draft, definitions: Definitions, own_asn: int) -> None:
        self._draft = draft
        self._definitions = definitions
        self._own_asn = own_asn

    def write(self, table: Table, name: str, channels: dict[str, Channel], *, is_internal: bool) -> None:
        """`import` and `export` of a neighbor with these unicast channels."""
        for word in ("import", "export"):
            self._write_direction(table, name, channels, word, is_internal)
        for channel in channels.values():
            self._write_limit(table, channel)
            self._close_other_tables(table, channel)

    def _write_direction(
        self, table: Table, name: str, channels: dict[str, Channel], word: str, is_internal: bool
    ) -> None:
        said = [one for one in (channel.direction(word) for channel in channels.values()) if one is not None]
        place = said[0].place if said else table_place(channels)
        try:
            parts = [self._statements(channel, word, is_internal, table) for channel in channels.values()]
            rules = compile_rules(_by_family(channels, parts), default=REJECT)
        except Inexpressible as error:
            where = Place(place.file, error.line) if error.line else place
            what = f"{word} of protocol {name} cannot be converted: {error}"
            self._draft.lose(where, what, f'{word} is "none" until there is a policy', at=table)
            table.put(word, "none", "not converted")
            return
        comment = f"{place}: {said[0]}" if said else f"no {word} in BIRD"
        built_in = named_policy(rules, exporting=word == "export")
        if built_in == "all" and word == "export":
            built_in = "local"
            comment = f"{comment}: BIRD sends what it learned, too; here only what is this host's own"
        table.put(word, built_in or self._draft.policy(_policy_name(said, name, word), rules, comment), comment)

    def _statements(self, channel: Channel, word: str, is_internal: bool, table: Table) -> tuple[FilterStatement, ...]:
        statement = channel.direction(word)
        if statement is None:
            passes: tuple[FilterStatement, ...] = (ACCEPT if word == "import" and is_internal else REJECT,)
        else:
            passes = self.filter_of(statement, table)
        installed = self._definitions.installed.get(channel.kind)
        if word == "export" or installed is None or is_closed(passes):
            return passes
        if isinstance(installed, Inexpressible):
            raise installed
        return followed_by(passes, installed)

    def filter_of(self, statement: Statement, table: Table) -> tuple[FilterStatement, ...]:
        """What "import ..." or "export ..." does. Raises: Inexpressible."""
        texts = statement.texts()[1:]
        words = statement.words[1:]
        told = _told(self._draft, table)
        if texts[:1] == ["where"]:
            return (Branch(read_condition(words[1:], self._definitions, told), (ACCEPT,)), REJECT)
        if texts == ["all"] or texts == ["none"]:
            return (ACCEPT if texts == ["all"] else REJECT,)
        if statement.block is not None and texts in (["filter"], []):
            return self._body(statement.block, told)
        if len(texts) == 2 and texts[0] == "filter" and texts[1] in self._definitions.filters:
            return self._body(self._definitions.filters[texts[1]], told)
        line = statement.place.line
        if len(texts) == 2 and texts[0] == "filter":
            raise Inexpressible(f'there is no filter "{texts[1]}"', line)
        raise Inexpressible(f'"{statement}" cannot be understood', line)

    def body_of(self, statement: Statement) -> list[Token]:
        """The words of the filter that a statement names or has; [] if it has none."""
        if statement.block is not None:
            return statement.block
        return self._definitions.filters.get(statement.texts()[-1], [])

    def _body(self, body: list[Token], told: Told) -> tuple[FilterStatement, ...]:
        return (*with_own_prepends(read_filter(body, self._definitions, told), self._own_asn), REJECT)

    def _close_other_tables(self, table: Table, channel: Channel) -> None:
        """Routes of another table than BIRD's usual ones are kept apart there, and would not be here."""
        statement = channel.last("table")
        if statement is None or statement.texts()[-1] in ("master4", "master6"):
            return
        what = f'"{statement}": BIRD keeps these routes in a table of their own; nothing is exchanged'
        self._draft.lose(statement.place, what, "see [[vrf]], then set import and export", at=table)
        for key in ("import", "export"):
            table.put(key, "none", "of another table")

    def _write_limit(self, table: Table, channel: Channel) -> None:
        for words in (("import", "limit"), ("receive", "limit")):
            statement = channel.last(*words)
            if statement is None or (most := statement.number(*words)) is None:
                continue
            texts = statement.texts()
            action = texts[texts.index("action") + 1] if "action" in texts[:-1] else "disable"
            if action == "warn":
                what = f'"{statement}": BIRD only warns; here a limit ends the session, or leaves out what is beyond it'
                self._draft.lose(statement.place, what, "set max_prefixes, if there is to be one", at=table)
                continue
            put_max_prefixes(self._draft, table, most, statement.place, statement)
            if _LIMIT_ACTIONS.get(action) == "discard":
                table.put("max_prefixes_action", "discard")
            if action == "disable":
                what = f'"{statement}": BIRD stays down until it is enabled; here the session is tried again'
                self._draft.lose(statement.place, what, "max_prefixes_restart_after_s says when", at=table)


def table_place(channels: dict[str, Channel]) -> Place:
    """Where the first of these stands."""
    return next(iter(channels.values())).place


def _by_family(
    channels: dict[str, Channel], parts: Sequence[tuple[FilterStatement, ...]]
) -> tuple[FilterStatement, ...]:
    if len({repr(part) for part in parts}) == 1:
        return parts[0]
    families: list[tuple[Condition, tuple[FilterStatement, ...]]] = [
        (Match("family", (FAMILIES[kind],)), part) for kind, part in zip(channels, parts)
    ]
    return tuple(Branch(condition, part) for condition, part in families)


def _policy_name(said: list[Statement], name: str, word: str) -> str:
    texts = said[0].texts() if said else []
    return texts[2] if len(texts) == 3 and texts[1] == "filter" else f"{name}-{word}"


def _told(draft: Draft, table: Table) -> Callable[[Place, str], None]:
    return lambda place, what: draft.lose(place, what, at=table)


def is_closed(statements: Sequence[FilterStatement]) -> bool:
    """Whether a filter lets nothing through."""
    first = statements[0] if statements else None
    return isinstance(first, End) and not first.accepts
