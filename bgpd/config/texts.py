"""Reads the files that are one configuration: the file that was named, and the fragments conf.d/*.toml beside it.

It judges no text. Files that change while they are read are read again, so that what is taken is what was there at
one time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from bgpd.config.toml_errors import TextError, bytes_error

FRAGMENTS = "conf.d"
"""The directory of fragments, beside the configuration file."""
MOST_BYTES = 8 << 20
"""Of all files together; to parse more would hold up a running daemon for many seconds."""
MOST_FRAGMENTS = 1000
_SUFFIX = ".toml"
_TRIES = 5


class ConfigText(msgspec.Struct, frozen=True):
    """One file of a configuration."""

    file: str
    text: str


class UnusableFile(msgspec.Struct, frozen=True):
    """A file that gives no text, and why."""

    file: str
    error: TextError


def read_texts(file: str) -> tuple[list[ConfigText], list[UnusableFile]]:
    """The texts of a configuration, the named file first, then its fragments in the order of their names."""
    directory = str(Path(file).parent / FRAGMENTS)
    for _ in range(_TRIES):
        unusable: list[UnusableFile] = []
        try:
            fragments = list_fragments(directory)
        except OSError as error:
            fragments = []
            unusable = [_unusable(directory, error)]
        before = _state_of(fragments)
        texts = _read_all(file, fragments, unusable)
        if unusable and not fragments:
            return texts, unusable
        if _state_of(_again(directory, fragments)) == before:
            return texts, unusable
    what = f"changes while it is read, {_TRIES} times in a row"
    return texts, [UnusableFile(directory, _of_file(what, "wait until what writes it is done"))]


def list_fragments(directory: str) -> list[str]:
    """The fragments of a directory, in the order of their names; none if it does not exist. Hidden files are left out.

    Raises: OSError: it cannot be listed.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [f"{directory}/{name}" for name in sorted(names) if name.endswith(_SUFFIX) and not name.startswith(".")]


def _again(directory: str, otherwise: list[str]) -> list[str]:
    try:
        return list_fragments(directory)
    except OSError:
        return otherwise


def _state_of(files: list[str]) -> list[tuple[object, ...]]:
    """What tells that a file was written or replaced."""
    state: list[tuple[object, ...]] = []
    for file in files:
        try:
            found = os.stat(file)
        except OSError as error:
            state.append((file, error.errno))
        else:
            state.append((file, found.st_ino, found.st_size, found.st_mtime_ns))
    return state


def _read_all(file: str, fragments: list[str], unusable: list[UnusableFile]) -> list[ConfigText]:
    texts = []
    left = MOST_BYTES
    if len(fragments) > MOST_FRAGMENTS:
        what = f"has {len(fragments)} fragments"
        unusable.append(UnusableFile(str(Path(file).parent / FRAGMENTS), _of_file(what, f"at most {MOST_FRAGMENTS}")))
        fragments = []
    for name in (file, *fragments):
        shown = name.encode(errors="backslashreplace").decode()
        if shown != name and name != file:
            unusable.append(UnusableFile(shown, _of_file("has a name that is not UTF-8", "give it another name")))
            continue
        try:
            if name != file and not stat.S_ISREG(os.stat(name).st_mode):
                what = "is a directory" if os.path.isdir(name) else "is not a regular file"
                unusable.append(UnusableFile(name, _of_file(what, _only_files(name))))
                continue
            with open(name, "rb") as opened:
                data = opened.read(left + 1)
        except OSError as error:
            unusable.append(_unusable(name, error, is_fragment=name != file))
            continue
        if len(data) > left:
            what = f"is too large: the files of a configuration have at most {MOST_BYTES >> 20} MiB together"
            unusable.append(UnusableFile(name, _of_file(what, "")))
            break
        left -= len(data)
        try:
            texts.append(ConfigText(name, data.decode()))
        except UnicodeDecodeError as error:
            unusable.append(UnusableFile(name, bytes_error(data, error.start)))
    return texts


def _only_files(name: str) -> str:
    return f"{FRAGMENTS}/*{_SUFFIX} are files of a configuration: give {Path(name).name} another name, or remove it"


def _unusable(file: str, error: OSError, *, is_fragment: bool = False) -> UnusableFile:
    right = ""
    if isinstance(error, FileNotFoundError):
        right = "give the path of a TOML file"
        if is_fragment and os.path.islink(file):
            right = (
                f"it is a link to {os.readlink(file)}, which does not exist: remove it, or what it leads to is missing"
            )
    elif isinstance(error, PermissionError):
        closed = next(
            (str(one) for one in reversed(Path(file).parents) if not os.access(one, os.X_OK, effective_ids=True)), ""
        )
        mode = 750 if closed or os.path.isdir(file) else 640
        which = closed or "it"
        right = f"{which} must be readable by the user that bgpd runs as: chown root:bgpd, chmod {mode}"
    elif isinstance(error, NotADirectoryError):
        right = "it is where fragments of the configuration are looked for: give it another name"
    return UnusableFile(file, _of_file(f"cannot be read: {error.strerror or error}", right))


def _of_file(what: str, right: str) -> TextError:
    return TextError(line=0, what=what, hint=right, excerpt="")
