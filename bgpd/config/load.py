"""From a configuration file to a Config: every problem at once, each with file, line, key path and what would be right.

It reads the file, and judges nothing itself: form is judged by shape.py, meaning by check.py.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bgpd.config.check import check_config, unreadable_files, warn_about
from bgpd.config.check_sessions import warn_about_interfaces
from bgpd.config.effects import begins_anew
from bgpd.config.schema import Config
from bgpd.config.shape import Finding, shape_config
from bgpd.config.toml_lines import KeyPath, format_key_path, key_lines, line_of


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One error or warning. `line` is 0 where the problem is the file itself; `path` is like "neighbor[0].asn"."""

    file: str
    line: int
    path: str
    what: str
    right: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        return f"{where}: {subject}{self.what}{f'; {self.right}' if self.right else ''}"


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` are all of its errors, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_config(
    file: str, *, running: bool = False, former: Config | None = None, uid: int | None = None
) -> tuple[Config, list[Problem]]:
    """The configuration in a file, and warnings about it.

    With `running` a neighbor's password that cannot be used is a warning only: a daemon works without that neighbor,
    and tries the file again. It is an error where a session would end for it that stands with the `former`
    configuration. `uid` is the user of the daemon, if another than that of this process.

    Raises: ConfigError: the file cannot be read or has errors.
    """
    try:
        text = Path(file).read_bytes().decode()
    except OSError as error:
        hint = "give the path of a TOML file" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(file=file, line=0, path="", what=_os_text(error), right=hint)]) from None
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        raise ConfigError([Problem(file=file, line=0, path="", what=what, right="save it as UTF-8")]) from None
    names = [name for _, name in socket.if_nameindex()]
    return parse_config(text, file, running=running, former=former, uid=uid, interfaces=names)


def parse_config(
    text: str,
    file: str,
    *,
    running: bool = False,
    former: Config | None = None,
    uid: int | None = None,
    interfaces: Sequence[str] | None = None,
) -> tuple[Config, list[Problem]]:
    """The configuration in a TOML text, and warnings about it; `file` is its name in messages, all else as above.

    `interfaces` are those of this host; None: not looked at.

    Raises: ConfigError: the text has errors.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_toml_problem(error, text, file)]) from None
    except (ValueError, RecursionError) as error:
        what = f"cannot be read: {error}"
        right = "write numbers that fit 64 bits, and tables within tables only as the documentation has them"
        raise ConfigError([Problem(file=file, line=0, path="", what=what, right=right)]) from None
    lines = key_lines(text)
    config, findings = shape_config(data)
    bad = {finding.path for finding in findings}
    for finding in check_config(config):
        if not any(finding.path[:length] in bad for length in range(1, len(finding.path) + 1)):
            findings.append(finding)
    if uid is not None:
        findings += [one for one in unreadable_files(config, uid) if one.path not in {found.path for found in findings}]
    passwords = [finding for finding in findings if running and _is_of_password(finding)]
    errors = [finding for finding in findings if finding not in passwords]
    if not errors and former is not None:
        errors = [_lost_session(finding) for finding in passwords if _ends_session(former, config, finding)]
    if errors:
        raise ConfigError(_problems(errors, lines, file))
    warnings = [*passwords, *warn_about(config)]
    if interfaces is not None:
        warnings += warn_about_interfaces(config, interfaces)
    return config, _problems(warnings, lines, file)


def _is_of_password(finding: Finding) -> bool:
    return finding.path[0] in ("neighbor", "listen") and finding.path[-1] == "password_file"


def _ends_session(former: Config, config: Config, finding: Finding) -> bool:
    """Whether sessions of the [[neighbor]] or [[listen]] with this password would have to begin anew."""
    return begins_anew(former, config, str(finding.path[0]), int(finding.path[1]))


def _lost_session(finding: Finding) -> Finding:
    what = f"{finding.what}, and its sessions would have to begin anew with it"
    return Finding(finding.path, what, finding.right)


def _problems(findings: list[Finding], lines: dict[KeyPath, int], file: str) -> list[Problem]:
    problems = [
        Problem(file=file, line=line_of(lines, path), path=format_key_path(path), what=what, right=right)
        for path, what, right in findings
    ]
    return sorted(problems, key=lambda problem: problem.line)


def _toml_problem(error: tomllib.TOMLDecodeError, text: str, file: str) -> Problem:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
    what = f"is not valid TOML: {str(error)[: found.start()] if found else error}"
    line = int(found[1]) if found and found[1] else text.count("\n") + 1
    right = f"see column {found[2]}" if found and found[2] else ""
    return Problem(file=file, line=line, path="", what=what, right=right)


def _os_text(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
