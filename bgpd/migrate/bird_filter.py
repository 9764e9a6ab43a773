"""Filters and functions of BIRD as statements of `filters`: tests of prefixes, communities, AS paths and sources.

What is not understood in full raises `Inexpressible`; the caller lets nothing through then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from bgpd.migrate.bird_text import Token, number_of, text_of
from bgpd.migrate.bird_words import Words
from bgpd.migrate.draft import Place
from bgpd.migrate.filters import (
    ACCEPT,
    ALWAYS,
    LOCAL,
    NEVER,
    REJECT,
    AllOf,
    AnyOf,
    Branch,
    Change,
    Condition,
    Inexpressible,
    Match,
    Not,
    Statement,
    prefix_range,
)

_LOCAL_SOURCES = {"RTS_STATIC", "RTS_DEVICE", "RTS_INHERIT", "RTS_DUMMY", "RTS_STATIC_DEVICE"}
_COMPARISONS = ("=", "!=", "~", "!~", "<", ">", "<=", ">=")
_DEEPEST = 30
_PREFERENCES = {
    "preference", "igp_metric", "bgp_next_hop", "krt_prefsrc", "krt_metric", "gw", "bgp_local_pref", "bgp_med", "unset",
    "bgp_origin", "weight", "onlink", "krt_lock_mtu", "krt_mtu",
}  # fmt: skip
"""What a filter sets that opens nothing if it is left out."""
Told = Callable[[Place, str], None]
"""Called for what is left out of a filter without opening it."""


class Definitions:
    """The filters and functions of a configuration by name, and which protocols bring this host's own routes.

    `installed` is what kernel protocols take of learned routes, by channel, or why that cannot be said.
    """

    def __init__(self) -> None:
        self.filters: dict[str, list[Token]] = {}
        self.functions: dict[str, list[Token]] = {}
        self.local_protocols: set[str] = set()
        self.installed: dict[str, tuple[Statement, ...] | Inexpressible] = {}


def read_filter(body: list[Token], definitions: Definitions, told: Told) -> tuple[Statement, ...]:
    """What a filter's body does. A route that comes to its end is rejected. Raises: Inexpressible."""
    try:
        return _Parser(body, definitions, told, 0).statements()
    except RecursionError:
        raise Inexpressible("it is nested too deeply") from None


def read_condition(tokens: list[Token], definitions: Definitions, told: Told) -> Condition:
    """What stands behind "where". Raises: Inexpressible."""
    parser = _Parser(tokens, definitions, told, 0)
    try:
        condition = parser.condition()
    except RecursionError:
        raise Inexpressible("it is nested too deeply") from None
    if not parser.is_at_end:
        parser.fail("cannot be understood")
    return condition


class _Parser(Words):
    def __init__(self, tokens: list[Token], definitions: Definitions, told: Told, depth: int) -> None:
        if depth > _DEEPEST:
            raise Inexpressible("functions call each other too deeply")
        super().__init__(tokens)
        self._definitions = definitions
        self._told = told
        self._depth = depth

    # Statements.

    def statements(self) -> tuple[Statement, ...]:
        """All statements up to the end."""
        made: list[Statement] = []
        while not self.is_at_end:
            made += self._statement()
        return tuple(made)

    def _statement(self) -> tuple[Statement, ...]:
        if self._take(";"):
            return ()
        if self._take("{"):
            made: list[Statement] = []
            while not self._take("}"):
                if self.is_at_end:
                    self.fail('stands where "}" should')
                made += self._statement()
            return tuple(made)
        if self._take("if"):
            condition = self.condition()
            self._expect("then")
            then = self._statement()
            otherwise = self._statement() if self._take("else") else ()
            return (Branch(condition, then, otherwise),)
        for word, end in (("accept", ACCEPT), ("reject", REJECT)):
            if self._take(word):
                self._skip_statement()
                return (end,)
        if self._peek() in ("print", "printn"):
            self._skip_statement()
            return ()
        return self._change()

    def _skip_statement(self) -> list[Token]:
        start = self._at
        while not self.is_at_end and self._peek() != ";":
            self._at += 1
        skipped = self._tokens[start : self._at]
        self._take(";")
        return skipped

    def _change(self) -> tuple[Statement, ...]:
        if self.is_at_end:
            self.fail("stands where a statement should")
        place = self._tokens[self._at].place
        name = self._peek()
        if name in ("bgp_local_pref", "bgp_med") and self._peek(1) == "=" and self._peek(3) == ";":
            token = self._tokens[self._at + 2]
            if token.kind == "number":
                self._at += 4
                return (Change("local_pref" if name == "bgp_local_pref" else "med", number_of(token)),)
        if name in ("bgp_community", "bgp_large_community", "bgp_ext_community", "bgp_path"):
            return self._list_change(name)
        if name in _PREFERENCES:
            skipped = self._skip_statement()
            if name != "krt_prefsrc":  # [fib] has it
                self._told(place, f'"{text_of(skipped)}" is left out: a policy here cannot say it')
            return ()
        if name in self._definitions.functions and self._peek(1) == "(" and self._peek(2) == ")":
            body = self._definitions.functions[name]
            if any(token.text == "return" for token in body):
                self.fail("calls a function that returns")
            self._at += 3
            self._take(";")
            return _Parser(body, self._definitions, self._told, self._depth + 1).statements()
        self.fail("cannot be converted")
        return None

    def _list_change(self, name: str) -> tuple[Statement, ...]:
        """bgp_community.add((65000,1)); bgp_path.prepend(65001); and the like."""
        start = self._at
        self._at += 1
        if not self._take("."):
            self._at = start
            self.fail("cannot be converted")
        operation = self._peek()
        self._at += 1
        self._expect("(")
        if name == "bgp_path" and operation == "prepend":
            token = self._tokens[self._at] if not self.is_at_end else None
            if token is None or token.kind != "number":
                self.fail("cannot be converted")
            self._at += 1
            self._expect(")")
            self._take(";")
            return (Change("prepend_asn", number_of(token)),)
        if operation not in ("add", "delete") or name == "bgp_path":
            self._at = start
            self.fail("cannot be converted")
        values = self._communities()
        self._expect(")")
        self._take(";")
        verb = "add" if operation == "add" else "remove"
        return tuple(Change(f"{verb}_{_KINDS[name]}", value) for value in values)

    # Conditions.

    def condition(self) -> Condition:
        """Terms with "||" between them."""
        parts = [self._conjunction()]
        while self._take("||"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._term()]
        while self._take("&&"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _term(self) -> Condition:
        if self._take("!"):
            return Not(self._term())
        for word, fixed in (("true", ALWAYS), ("false", NEVER)):
            if self._take(word):
                return fixed
        name = self._peek()
        if name in self._definitions.functions and self._peek(1) == "(" and self._peek(2) == ")":
            self._at += 3
            return self._of_function(self._definitions.functions[name])
        if self._peek() == "(" and not self._is_pair():
            self._at += 1
            inner = self.condition()
            self._expect(")")
            return inner
        return self._comparison()

    def _of_function(self, body: list[Token]) -> Condition:
        """Whether a function returns true: "return CONDITION;", also behind "if"."""
        parser = _Parser(body, self._definitions, self._told, self._depth + 1)
        return parser._returned()

    def _returned(self) -> Condition:
        if self._take("if"):
            condition = self.condition()
            self._expect("then")
            then = self._returned_by_one()
            rest = self._returned_by_one() if self._take("else") else self._returned()
            return AnyOf((AllOf((condition, then)), AllOf((Not(condition), rest))))
        if self._take("return"):
            condition = self.condition()
            self._take(";")
            return condition
        self.fail("cannot be converted")
        return None

    def _returned_by_one(self) -> Condition:
        is_block = self._take("{")
        self._expect("return")
        condition = self.condition()
        self._take(";")
        if is_block:
            self._expect("}")
        return condition

    def _is_pair(self) -> bool:
        """Whether "(65000,1) ~ ..." stands here and no condition in parentheses."""
        return self._peek(2) == "," or self._peek(3) == ","

    def _comparison(self) -> Condition:
        start = self._at
        if self._peek() == "(":
            values = self._one_community()
            is_not = self._peek() == "!~"
            if not (self._take("~") or self._take("!~")) or self._peek() not in _KINDS:
                self._at = start
                self.fail("cannot be converted")
            kind = _KINDS[self._peek()]
            self._at += 1
            return _with_sign(Match(kind, (values,)), is_not)
        name = self._operand()
        sign = self._peek()
        if sign not in _COMPARISONS:
            self._at = start
            self.fail("cannot be converted")
        self._at += 1
        reader = _READERS.get(name)
        condition = None if reader is None else reader(self, sign)
        if condition is None:
            self._at = start
            self.fail("cannot be converted")
        return condition

    def _operand(self) -> str:
        name = self._peek()
        self._at += 1
        while self._take("."):
            name += f".{self._peek()}"
            self._at += 1
        return name

    def _net(self, sign: str) -> Condition | None:
        if sign in ("~", "!~"):
            values = self._prefix_set() if self._peek() == "[" else self._pattern(contained=True)
            return _with_sign(Match("prefix", values), sign == "!~")
        if sign in ("=", "!="):
            return _with_sign(Match("prefix", self._pattern()), sign == "!=")
        return None

    def _net_length(self, sign: str) -> Condition | None:
        number = self._number()
        least, most = {
            "<": (0, number - 1), "<=": (0, number), ">": (number + 1, 128), ">=": (number, 128), "=": (number, number),
        }.get(sign, (1, 0))  # fmt: skip
        if sign not in ("<", "<=", ">", ">=", "="):
            return None
        texts = [
            text
            for zero in ("0.0.0.0/0", "::/0")
            if least <= (32 if "." in zero else 128)
            for text in prefix_range(ipaddress.ip_network(zero), least, most)
        ]
        return Match("prefix", tuple(texts))

    def _net_type(self, sign: str) -> Condition | None:
        families = {"NET_IP4": "ipv4-unicast", "NET_IP6": "ipv6-unicast"}
        name = self._peek()
        if sign not in ("=", "!=") or name not in families:
            return None
        self._at += 1
        return _with_sign(Match("family", (families[name],)), sign == "!=")

    def _communities_test(self, name: str, sign: str) -> Condition | None:
        if sign not in ("~", "!~") or self._peek() != "[":
            return None
        return _with_sign(Match(_KINDS[name], tuple(self._communities())), sign == "!~")

    def _path(self, sign: str) -> Condition | None:
        if sign not in ("~", "!~"):
            return None
        if self._take("[="):
            return _with_sign(Match("as_path", (self._mask(),)), sign == "!~")
        if self._take("["):
            return _with_sign(Match("as_path", tuple(map(str, self._as_numbers()))), sign == "!~")
        return None

    def _path_end(self, sign: str, *, first: bool) -> Condition | None:
        if sign not in ("=", "!="):
            return None
        number = self._number()
        pattern = rf"^{number}\b" if first else rf"\b{number}$"
        return _with_sign(Match("as_path", (pattern,)), sign == "!=")

    def _source(self, sign: str) -> Condition | None:
        names: list[str] = []
        if sign in ("~", "!~") and self._take("["):
            while not self._take("]"):
                names.append(self._peek())
                self._at += 1
                if not self._take(",") and self._peek() != "]":
                    self.fail("cannot be understood")
        elif sign in ("=", "!="):
            names.append(self._peek())
            self._at += 1
        local = Match(LOCAL, (LOCAL,))
        kinds = {name in _LOCAL_SOURCES for name in names}
        if not names or any(name not in _LOCAL_SOURCES and name != "RTS_BGP" for name in names):
            return None
        found: Condition = local if kinds == {True} else Not(local) if kinds == {False} else ALWAYS
        return _with_sign(found, sign.startswith("!"))

    def _protocol(self, sign: str) -> Condition | None:
        if self.is_at_end or self._tokens[self._at].kind != "string" or sign not in ("=", "!="):
            return None
        if self._tokens[self._at].text not in self._definitions.local_protocols:
            return None
        self._at += 1
        return _with_sign(Match(LOCAL, (LOCAL,)), sign == "!=")


_KINDS = {
    "bgp_community": "community",
    "bgp_large_community": "large_community",
    "bgp_ext_community": "extended_community",
}
_READERS: Mapping[str, Callable[[_Parser, str], Condition | None]] = {
    "net": _Parser._net,
    "net.len": _Parser._net_length,
    "net.type": _Parser._net_type,
    "bgp_path": _Parser._path,
    "bgp_path.first": lambda parser, sign: parser._path_end(sign, first=True),
    "bgp_path.last": lambda parser, sign: parser._path_end(sign, first=False),
    "source": _Parser._source,
    "proto": _Parser._protocol,
    **{name: lambda parser, sign, name=name: parser._communities_test(name, sign) for name in _KINDS},  # type: ignore[misc]
}


def _with_sign(condition: Condition, is_not: bool) -> Condition:
    return Not(condition) if is_not else condition


def with_own_prepends(statements: Sequence[Statement], own_asn: int) -> tuple[Statement, ...]:
    """ "bgp_path.prepend(65001)" counts; with another AS number than ours it cannot be said. Raises: Inexpressible."""
    made: list[Statement] = []
    for statement in statements:
        match statement:
            case Change(key="prepend_asn", value=value):
                if value != own_asn:
                    raise Inexpressible(f"{value}, which is not this host's AS number, is put before the path")
                made.append(Change("prepend", 1))
            case Branch():
                then = with_own_prepends(statement.then, own_asn)
                made.append(Branch(statement.condition, then, with_own_prepends(statement.otherwise, own_asn)))
            case _:
                made.append(statement)
    return tuple(made)
