"""What may follow on a command line: commands and options by the parser, values by the running daemon.

The shells ask with every press of Tab, so nothing of the daemon is imported, and it is asked for at most a second.
Where none runs, or it may not be asked, there are no values, and no word about it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bgpd.cli.decode import Hooks
from bgpd.cli.parser import Parser, helps_of
from bgpd.cli.render import printable

FILES, DIRECTORIES = ":files", ":directories"
"""Answers that ask the shell to complete names of files itself."""
_METAVARS = {
    "FILE": FILES,
    "TOPOLOGY": FILES,
    "SCENARIO": FILES,
    "PATH": FILES,
    "DIRECTORY": DIRECTORIES,
    "DIR": DIRECTORIES,
}


class Place(NamedTuple):
    """Where the cursor is: behind an option that takes a value, or where an argument of the parser stands next.

    `action` is what the word would be of, None if nothing but an option may stand here; `before` is the part of the
    word that is typed and stays ("--vrf=").
    """

    parser: Parser
    action: argparse.Action | None
    typed: str
    before: str = ""
    socket: str = ""
    given: frozenset[str] = frozenset()
    takes_options: bool = True
    filters: tuple[tuple[str, str], ...] = ()


def main(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd completion SHELL`: the script for a shell; with words, what may follow them."""
    if not arguments.words:
        print((Path(__file__).parent / "shells" / f"bgpd.{arguments.shell}").read_text(), end="")
        return 0
    words = arguments.words
    if arguments.shell == "bash":
        words = split(words[0])[1:] or [""]
    for word, about in candidates(words):
        print(word if arguments.shell == "bash" or word in (FILES, DIRECTORIES) else f"{word}\t{printable(about)}")
    return 0


def split(line: str) -> list[str]:
    """The words of a line as a shell would take them; a quote may be open, and the last word may be empty."""
    words, word, quote, escaped = [], None, "", False
    for character in line:
        if escaped:
            word, escaped = (word or "") + character, False
        elif character == "\\" and quote != "'":
            escaped, word = True, word or ""
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + character
        elif character in "'\"":
            quote, word = character, word or ""
        elif character.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
    return [*words, word or ""]


def candidates(words: Sequence[str]) -> list[tuple[str, str]]:
    """Words that the last of `words` may become, with their descriptions."""
    from bgpd.cli.main import make_parser

    place = place_of(make_parser().filled(), words)
    if place is None:
        return []
    found: dict[str, str] = {}
    for word, about in _candidates(place):
        if word in (FILES, DIRECTORIES):
            found[word] = ""
        elif word.startswith(place.typed):
            found.setdefault(f"{place.before}{word}", about)
    return list(found.items())


def place_of(parser: Parser, words: Sequence[str]) -> Place | None:
    """Where the last of the words stands; None behind a word that no command has."""
    *before, typed = words
    waiting: argparse.Action | None = None
    positionals = _positionals(parser)
    given: set[str] = set()
    values: dict[str, str] = {}
    ended = False
    for word in before:
        if waiting is not None and not _may_be_left_out(waiting, word):
            values[waiting.dest], waiting = word, None
            continue
        waiting = None
        if word == "--" and not ended:
            ended = True
        elif word.startswith("-") and len(word) > 1 and not ended:
            name, has_value, value = word.partition("=")
            action = parser.option(name)
            if action is None:
                continue
            given.update(action.option_strings)
            if has_value:
                values[action.dest] = value
            elif _takes_value(action):
                waiting = action
        elif positionals and parser.commands is not None and parser.stands_for_commands(positionals[0]):
            if word not in parser.commands.by_name:
                return None
            parser = parser.commands.by_name[word].filled()
            positionals = _positionals(parser)
        elif positionals:
            values[positionals[0].dest] = word
            if positionals[0].nargs not in ("+", "*"):
                positionals = positionals[1:]
    socket = values.pop("socket", "")
    place = Place(parser, positionals[0] if positionals else None, typed, "", socket, frozenset(given), not ended)
    place = place._replace(filters=tuple(values.items()))
    if waiting is not None and not _may_be_left_out(waiting, typed):
        return place._replace(action=waiting, takes_options=False)
    name, has_value, value = typed.partition("=")
    action = parser.option(name) if has_value and not ended else None
    if action is not None and _takes_value(action):
        return place._replace(action=action, typed=value, before=f"{name}=", takes_options=False)
    return place


def _positionals(parser: Parser) -> list[argparse.Action]:
    return [one for one in parser.arguments if not one.option_strings]


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs is None or action.nargs in ("?", "+", "*")


def _may_be_left_out(action: argparse.Action, word: str) -> bool:
    """Whether a word behind an option is none of its values: of --watch all but a number."""
    if action.nargs != "?":
        return False
    return word.startswith("-") or (action.dest == "watch" and not re.fullmatch(r"[0-9.]+", word))


def _candidates(place: Place) -> Iterator[tuple[str, str]]:
    action = place.action
    if place.takes_options and (action is None or place.typed.startswith("-")):
        yield from _options(place)
    if action is None or (place.takes_options and place.typed.startswith("-")):
        return
    if place.parser.stands_for_commands(action):
        yield from helps_of(place.parser).items()
        return
    if action.choices is not None:
        yield from ((str(one), "") for one in action.choices)
        return
    if (metavar := str(action.metavar)) in _METAVARS:
        yield _METAVARS[metavar], ""
        return
    from bgpd.cli.values import values

    yield from values(
        place.parser.prog, action.dest, typed=place.typed, socket=place.socket or None, filters=dict(place.filters)
    )


def _options(place: Place) -> Iterator[tuple[str, str]]:
    """The long options that were not given yet, or that may be given several times."""
    for action in place.parser.arguments:
        is_again = place.parser.repeatable.issuperset(action.option_strings)
        if action.help == argparse.SUPPRESS or (not is_again and place.given & set(action.option_strings)):
            continue
        for name in action.option_strings:
            if name.startswith("--"):
                yield name, re.sub(r"%(\(\w+\)s|%)", "", action.help or "")
