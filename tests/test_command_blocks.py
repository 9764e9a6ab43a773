"""Each command and each piece of configuration in the documents is one that bgpd takes."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bgpd.cli.main import make_parser
from bgpd.config.shape import shape_config

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [path for path in DOCUMENTS if path.parent.name != "decisions"]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Block(NamedTuple):
    """A block of code: the line where it begins, its language ("" if it is indented), its text."""

    line: int
    language: str
    text: str


def blocks(path: Path) -> Iterator[Block]:
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        begin = number + 1
        if found := re.match(r"( *)(```+)(\w*)", line):
            indent, fence, language = found.groups()
            inner = []
            number += 1
            while number < len(lines) and not lines[number].strip().startswith(fence):
                inner.append(lines[number].removeprefix(indent))
                number += 1
            yield Block(begin, language or "text", "\n".join(inner))
        elif line.startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            inner = []
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                inner.append(lines[number].removeprefix("    "))
                number += 1
            yield Block(begin, "", "\n".join(inner))
        number += 1


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a block: without prompts, pipes, redirections and comments."""
    text = re.sub(r" \[--?[^]]*\]", "", text.replace("\\\n", " "))  # what may be left out
    for line in text.splitlines():
        line = re.sub(r"^(?:[$#%] )?(?:sudo )?", "", line.strip())
        if not re.match(r"(bgpd|make) [a-z]", line):
            continue
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:
            continue
        command: list[str] = []
        for word in [*words, ";"]:
            if word and set(word) <= set("|&;<>"):
                if command:
                    yield command
                command = []
            else:
                command.append(word)


BLOCKS = [(path, block) for path in DOCUMENTS for block in blocks(path)]


def named(path: Path, block: Block) -> str:
    return f"{path.relative_to(ROOT)}:{block.line}"


SHOWN = [
    pytest.param(words, id=f"{named(path, block)} {' '.join(words)}"[:90])
    for path, block in BLOCKS
    if block.language in ("", "sh", "console")
    for words in commands(block.text)
    if words[0] in ("bgpd", "make")
]


@pytest.mark.parametrize("words", SHOWN)
def test_command_is_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "make":
        assert all(word in TARGETS for word in words[1:] if "=" not in word)
        return
    code: object = 0
    try:
        make_parser().parse_args(words[1:])
    except SystemExit as end:  # of --help, too
        code = end.code
    assert code == 0, capsys.readouterr().err


PIECES = [
    pytest.param(block.text, id=named(path, block))
    for path, block in BLOCKS
    if block.language == "toml"
    or (block.language == "" and re.search(r"^\[+[a-z][\w.]*\]+ *(#.*)?$", block.text, re.MULTILINE))
]


@pytest.mark.parametrize("text", PIECES)
def test_piece_of_configuration_has_known_keys_and_values(text: str) -> None:
    _, findings = shape_config(tomllib.loads(text))
    wrong = [
        one for one in findings if not re.search(r'is missing$|\$\{|"auto"', one.what)
    ]  # what one leaves out, or stands for
    assert wrong == []


OBJECTS = [pytest.param(block.text, id=named(path, block)) for path, block in BLOCKS if block.language == "json"]


@pytest.mark.parametrize("text", OBJECTS)
def test_json_is_json(text: str) -> None:
    for line in [text] if text.lstrip().startswith("{\n") or "\n" not in text else text.splitlines():
        json.loads(line)


def test_documents_have_commands_and_configuration() -> None:
    assert len(SHOWN) > 40
    assert len(PIECES) > 5
