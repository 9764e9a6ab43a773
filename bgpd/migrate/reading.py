"""Reads the files that are to be imported: text of bearable size, or an error that says what is wrong with a file."""

from __future__ import annotations

import os
import re
import stat
import sys

from bgpd.migrate.draft import ImportFailed, Place

STANDARD_INPUT = "-"
MOST_BYTES = 32 << 20
_ENDLESS_NUMBER = re.compile(rb"[0-9]{1001}")


def read_text(file: str) -> str:
    """The text of a file, or of standard input for "-".

    Raises: ImportFailed: it cannot be read, is too large, is empty, or is no text that people write.
    """
    name = "standard input" if file == STANDARD_INPUT else file
    data = _read(file, name)
    if len(data) > MOST_BYTES:
        raise ImportFailed(Place(name), f"is larger than {MOST_BYTES >> 20} MB", "give only what is to be imported")
    if not data.strip():
        raise ImportFailed(Place(name), "is empty", "give a configuration file")
    binary = data.find(b"\0")
    if binary >= 0:
        line = data.count(b"\n", 0, binary) + 1
        raise ImportFailed(Place(name, line), "is no text: it holds a zero byte", "give a configuration file")
    if endless := _ENDLESS_NUMBER.search(data):
        line = data.count(b"\n", 0, endless.start()) + 1
        raise ImportFailed(Place(name, line), "has a number of more than 1000 digits")
    return data.decode(errors="replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def display_name(file: str) -> str:
    """What a file is called in messages."""
    return "standard input" if file == STANDARD_INPUT else file


def _read(file: str, name: str) -> bytes:
    try:
        if file == STANDARD_INPUT:
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        mode = os.stat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ImportFailed(Place(name), "is not a regular file", "name the file itself")
        with open(file, "rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ImportFailed(Place(name), f"cannot be read: {why}") from None
