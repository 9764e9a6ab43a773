"""The parser of the command line: each command's options are made when they are needed, and a mistyped word is told
with what it may have been meant to be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from bgpd.cli.tables import SHOWN

Fill = Callable[["Parser"], None]
_COLUMNS = 80
_WATCH = "--watch"
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


class _Formatter(argparse.HelpFormatter):
    """Leaves room for the longest name of a command, which argparse measures without its indent."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **settings})

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        longest = (
            max((len(one.metavar or one.dest) for one in action._get_subactions()), default=0)
            if (isinstance(action, argparse._SubParsersAction))
            else 0
        )
        self._action_max_length = max(self._action_max_length, longest + 2 * self._indent_increment)


def _columns() -> int:
    """How wide the terminal is, as COLUMNS says or it itself. argparse would ask shutil, which brings compression:
    half a megabyte of each daemon."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _COLUMNS  # type: ignore[union-attr]
    return _COLUMNS


class Commands:
    """The commands below a parser: `by_name`, and by their short forms too, and their `helps`. `action` is what stands
    for them among the parser's arguments."""

    def __init__(self, action: Any) -> None:
        self.action: argparse.Action = action
        self.by_name: dict[str, Parser] = {}
        self.helps: dict[str, str] = {}
        self._action = action

    def add_parser(self, name: str, *, help: str, aliases: Sequence[str] = (), **settings: Any) -> Parser:
        """A command, and the parser of what follows it."""
        made: Parser = self._action.add_parser(name, help=help, aliases=aliases, **settings)
        self.helps[name] = help
        self.by_name.update(dict.fromkeys((name, *aliases), made))
        return made


class Alternatives:
    """Arguments of a parser of which only one may be given."""

    def __init__(self, parser: Parser, group: Any) -> None:
        self._parser = parser
        self._group = group

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """As that of the parser."""
        return self._parser.noted(self._group.add_argument(*names, **settings))


class Parser(argparse.ArgumentParser):
    """One command and what is below it. `fill` adds its options: of the thirty parsers a command needs two or three.

    `arguments` are its own, in order; `repeatable` are options that may be given several times.
    """

    def __init__(self, *arguments: Any, fill: Fill | None = None, **settings: Any) -> None:
        self._fill = fill
        self.arguments: list[argparse.Action] = []
        self.commands: Commands | None = None
        self.repeatable: set[str] = set()
        super().__init__(*arguments, **{"allow_abbrev": False, "formatter_class": _Formatter, **settings})

    def filled(self) -> Parser:
        """The parser itself, with its options."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return self

    def noted(self, argument: argparse.Action) -> argparse.Action:
        """The argument, which is one of this parser's own."""
        self.arguments.append(argument)
        return argument

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """As argparse's own; it is among `arguments` from now on."""
        if settings.get("action") == "append":
            self.repeatable.update(names)
        return self.noted(super().add_argument(*names, **settings))

    def add_mutually_exclusive_group(self, **settings: Any) -> Alternatives:  # type: ignore[override]
        """As argparse's own."""
        return Alternatives(self, super().add_mutually_exclusive_group(**settings))

    def add_subparsers(self, **settings: Any) -> Commands:  # type: ignore[override]
        """With the name of the program said: argparse would make a formatter for it."""
        self.commands = Commands(super().add_subparsers(**{"prog": self.prog, **settings}))
        self.noted(self.commands.action)
        return self.commands

    def option(self, name: str) -> argparse.Action | None:
        """The option of this name, if it has one."""
        return next((one for one in self.arguments if name in one.option_strings), None)

    def stands_for_commands(self, argument: argparse.Action | None) -> bool:
        """Whether an argument is the name of a command below."""
        return self.commands is not None and argument is self.commands.action

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self.filled()
        given = list(sys.argv[1:] if args is None else args)
        self._refuse_repeated(given)
        return super().parse_known_args(_with_seconds(given), namespace)

    def _refuse_repeated(self, given: Sequence[str]) -> None:
        """An option of one value may stand once: who reads a script need not know which one counts."""
        values = {name: one for one in self.arguments if one.nargs != 0 for name in one.option_strings}
        seen: set[argparse.Action] = set()
        for word in given[: given.index("--") if "--" in given else None]:
            name = word.partition("=")[0]
            option = values.get(name)
            if option in seen and name not in self.repeatable:
                self.error(f"argument {name}: is given twice")
            if option is not None:
                seen.add(option)

    def format_usage(self) -> str:
        self.filled()
        return super().format_usage()

    def format_help(self) -> str:
        self.filled()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        if meant := _meant(message, self):
            message += f"\ndid you mean {meant}?"
        elif missing := re.search(r"are required: ([A-Z]+)$", message):
            below = [one for one in self.arguments if one.metavar == missing[1] and one.choices]
            message += "".join(f"\none of: {', '.join(names_of(action))}" for action in below)
        super().error(message)


def names_of(action: argparse.Action) -> list[str]:
    """The names that may stand for an argument, without their short forms."""
    choices = list(action.choices or ())
    return [name for name in choices if f"{name}s" not in choices]


def below(parser: Parser) -> dict[str, Parser]:
    """The parsers directly below one, by the names of their commands."""
    commands = parser.commands
    return {} if commands is None else {name: commands.by_name[name].filled() for name in commands.helps}


def helps_of(parser: Parser) -> dict[str, str]:
    """The help of each command directly below one, by name."""
    return {} if parser.commands is None else parser.commands.helps


def _with_seconds(given: list[str]) -> list[str]:
    """`--watch` takes the next word only if that is a number: "bgpd explain --watch 10.0.0.1" is about 10.0.0.1."""
    if _WATCH not in given:
        return given
    place = given.index(_WATCH)
    if place + 1 < len(given) and _SECONDS.fullmatch(given[place + 1]):
        return given
    return [*given[:place], f"{_WATCH}=2", *given[place + 1 :]]


def _meant(message: str, parser: Parser) -> str:
    """The known word that is closest to the one that argparse does not know; "" if none is close."""
    import difflib  # for mistakes only

    if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
        known = [word.strip(" '") for word in found[2].split(",")]
        if "show" in known and (found[1] in SHOWN or f"{found[1]}s" in SHOWN):
            return f"show {found[1]}"
        return "".join(difflib.get_close_matches(found[1], known, 1))
    if found := re.search(r"unrecognized arguments: (--?[^\s=]+)", message):
        known = sorted(set(_options(parser)))  # one that is known belongs to another command
        return "" if found[1] in known else "".join(difflib.get_close_matches(found[1], known, 1))
    return ""


def _options(parser: Parser) -> Iterator[str]:
    """The options of a parser and of all below it."""
    for argument in parser.arguments:
        yield from argument.option_strings
    for one in below(parser).values():
        yield from _options(one)
