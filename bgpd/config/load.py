"""From a configuration file to a Config: every problem at once, each with file, line, key path and what would be right.

It reads the file, and judges nothing itself: form is judged by shape.py, meaning by check.py.
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bgpd.config.check import check_config, unreadable_files, warn_about
from bgpd.config.check_sessions import warn_about_interfaces, warn_about_tcp_ao
from bgpd.config.effects import begins_anew
from bgpd.config.schema import Config
from bgpd.config.shape import Finding, shape_config
from bgpd.config.toml_errors import DEEPEST, TextError, bytes_error, nested_too_deeply, text_error
from bgpd.config.toml_lines import KeyPath, format_key_path, key_lines, line_of


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One error or warning. `line` is 0 where the problem is the file itself; `path` is like "neighbor[0].asn".

    `excerpt` is the line with a mark below the place, where only the place tells what is meant.
    """

    file: str
    line: int
    path: str
    what: str
    right: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        excerpt = f"\n{self.excerpt}" if self.excerpt else ""
        return f"{where}: {subject}{self.what}{f'; {self.right}' if self.right else ''}{excerpt}"


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
        data = Path(file).read_bytes()
        text = data.decode()
    except OSError as error:
        hint = "give the path of a TOML file" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(file=file, line=0, path="", what=_os_text(error), right=hint)]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([_of_text(bytes_error(data, error.start), file)]) from None
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

    `interfaces` are those of this host; None: the host is not looked at.

    Raises: ConfigError: the text has errors.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([_of_text(text_error(error, text), file)]) from None
    if _is_deeper(data, DEEPEST):
        raise ConfigError([_of_text(nested_too_deeply(text), file)])
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
        warnings += [*warn_about_interfaces(config, interfaces), *warn_about_tcp_ao(config)]
    return config, _problems(warnings, lines, file)


def _is_of_password(finding: Finding) -> bool:
    return finding.path[0] in ("neighbor", "listen") and finding.path[-1] in ("password_file", "key_file")


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


def _of_text(error: TextError, file: str) -> Problem:
    return Problem(file=file, line=error.line, path="", what=error.what, right=error.hint, excerpt=error.excerpt)


def _is_deeper(data: object, most: int) -> bool:
    """Whether tables and lists are more than so many within each other; however deep, without a deep call."""
    level = [data]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return bool(level)


def _os_text(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
