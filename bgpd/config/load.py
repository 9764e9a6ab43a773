"""From the files of a configuration to a Config: every problem at once, each with file, line, key and what is right.

It judges nothing itself: texts.py reads the files, merge.py makes one of them, variables.py expands them; form is
judged by shape.py, meaning by check.py.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from bgpd.config.check import check_config, check_files, unreadable_files, warn_about
from bgpd.config.check_sessions import warn_about_interfaces, warn_about_tcp_ao
from bgpd.config.check_vrfs import check_tables_until_restart
from bgpd.config.effects import begins_anew
from bgpd.config.facts import Facts
from bgpd.config.identity import resolve
from bgpd.config.merge import Merged, Place, merge
from bgpd.config.schema import Config
from bgpd.config.shape import Finding, shape_config
from bgpd.config.texts import ConfigText, read_texts
from bgpd.config.toml_errors import DEEPEST, TextError, nested_too_deeply, text_error
from bgpd.config.toml_lines import KeyPath, format_key_path
from bgpd.config.variables import Expansion
from bgpd.model.identity import Identity

_ENTRY = re.compile(r"\b(neighbor|listen|vrf|aggregate|workload\.\w+)\[(\d+)\]")
"""How a finding names another entry of a list of tables."""
_FIRST = (
    "bgpd init --output FILE writes the first ones, by what is seen of this machine; "
    "bgpd import those of another program"
)


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


class HostNotReady(ConfigError):
    """The configuration lacks only what the host may get a little later: a loopback address."""


class Loaded(NamedTuple):
    """A configuration, the warnings about it, and where it came from: its files, the variables in them, and what "auto"
    stands for. `is_early`: that may be made from a loopback address a little later. `rules`: file and line of the rules
    of policies, by name and number. `errors`: of the files now, where it is what the process before had."""

    config: Config
    warnings: list[Problem]
    files: tuple[str, ...]
    variables: dict[str, str]
    identity: Identity
    is_early: bool = False
    rules: Mapping[tuple[str, int], str] = MappingProxyType({})
    errors: tuple[str, ...] = ()


def load_config(
    file: str,
    *,
    running: bool = False,
    former: Config | None = None,
    uid: int | None = None,
    facts: Facts | None = None,
    identity: Identity | None = None,
) -> Loaded:
    """The configuration in a file and the fragments beside it.

    With `running` a file that cannot be used (a neighbor's password, the token of the API) is a warning only: a daemon
    works without that neighbor or listener, and tries the file again. It is an error where a session would end for it
    that stands with the `former` configuration. `uid` is the user of the daemon, if another than that of this process.
    `facts` are those of the host that the configuration is for; None: it has no loopback, and an empty environment.
    `identity` is what "auto" stands for in a daemon that runs, as far as it is known.

    Raises: ConfigError: a file cannot be read or has errors. HostNotReady: all that is missing is a loopback address.
    """
    texts, unusable = read_texts(file)
    problems = [_of_text(one.error, one.file) for one in unusable]
    names = [name for _, name in socket.if_nameindex()]
    return _parse(
        texts,
        problems,
        running=running,
        former=former,
        uid=uid,
        interfaces=names,
        facts=facts or Facts(),
        identity=identity or Identity(),
    )


def parse_config(
    text: str,
    file: str,
    *,
    running: bool = False,
    former: Config | None = None,
    uid: int | None = None,
    interfaces: Sequence[str] | None = None,
    facts: Facts | None = None,
) -> tuple[Config, list[Problem]]:
    """The configuration in a TOML text, and warnings about it; `file` is its name in messages, all else as above.

    `interfaces` are those of this host; None: the host is not looked at.

    Raises: ConfigError, HostNotReady: as above.
    """
    loaded = _parse(
        [ConfigText(file, text)],
        [],
        running=running,
        former=former,
        uid=uid,
        interfaces=interfaces,
        facts=facts or Facts(),
        identity=Identity(),
    )
    return loaded.config, loaded.warnings


def _parse(
    texts: Sequence[ConfigText],
    problems: list[Problem],
    *,
    running: bool,
    former: Config | None,
    uid: int | None,
    interfaces: Sequence[str] | None,
    facts: Facts,
    identity: Identity,
) -> Loaded:
    """`problems` are those of reading the texts."""
    files = tuple(one.file for one in texts)
    merged = _merge(texts, problems)
    facts = _with_loopbacks(facts, merged.data)
    expansion = Expansion(facts)
    if any("${" in one.text for one in texts):
        expansion.expand(merged.data)
    resolved = resolve(merged.data, facts, identity)
    findings = list(expansion.findings)
    findings += _others(resolved.findings, than=findings)
    config, misshapen = shape_config(merged.data)
    findings += _others(misshapen, than=findings)
    findings += _others(check_config(config), than=findings)
    files_amiss = _others(check_files(config), than=findings)
    findings += () if running else files_amiss
    if uid is not None:
        findings += [one for one in unreadable_files(config, uid) if one.path not in {found.path for found in findings}]
    passwords = [finding for finding in findings if running and is_of_password(finding)]
    errors = [finding for finding in findings if finding not in passwords]
    if not errors and former is not None:
        errors = [_lost_session(finding) for finding in passwords if _ends_session(former, config, finding)]
        errors += check_tables_until_restart(config, former)
    if errors:
        is_early = expansion.misses_loopback_only and errors == expansion.findings
        raise (HostNotReady if is_early else ConfigError)(_problems(errors, merged, files))
    warnings = [*passwords, *(files_amiss if running else ()), *resolved.warnings, *warn_about(config)]
    if interfaces is not None:
        warnings += [*warn_about_interfaces(config, interfaces), *warn_about_tcp_ao(config)]
    problems = _problems(warnings, merged, files)
    rules = _places_of_rules(config, merged, files)
    return Loaded(config, problems, files, expansion.used, resolved.identity, resolved.is_early, rules)


def _places_of_rules(config: Config, merged: Merged, files: Sequence[str]) -> dict[tuple[str, int], str]:
    """File and line of each rule of a policy."""
    found = {}
    for name, policy in config.policy.items():
        for number in range(len(policy.rules)):
            place = merged.place(("policy", name, "rules", number))
            found[name, number] = f"{files[place.file]}:{place.line}"
    return found


def _merge(texts: Sequence[ConfigText], problems: list[Problem]) -> Merged:
    """All texts as one. Raises: ConfigError: with these problems, and those of the texts."""
    parsed: list[tuple[str, dict[str, Any]]] = []
    for text in texts:
        try:
            data = tomllib.loads(text.text)
        except (ValueError, RecursionError) as error:
            problems.append(_of_text(text_error(error, text.text), text.file))
            continue
        if _is_deeper(data, DEEPEST):
            problems.append(_of_text(nested_too_deeply(text.text), text.file))
            continue
        parsed.append((text.text, data))
    if problems:
        raise ConfigError(problems)
    if not any(data for _, data in parsed):
        raise ConfigError([Problem(file=texts[0].file, line=0, path="", what="has no settings yet", right=_FIRST)])
    merged = merge(parsed)
    if merged.twice:
        raise ConfigError([_of_twice(path, first, second, texts) for path, first, second in merged.twice])
    return merged


def _of_twice(path: KeyPath, first: Place, second: Place, texts: Sequence[ConfigText]) -> Problem:
    """A key that two files give: neither counts more than the other."""
    what = f"is already in {texts[first.file].file}:{first.line}"
    right = "remove one; what [[...]] names may stand in several files, and the keys of a table, each once"
    return Problem(file=texts[second.file].file, line=second.line, path=format_key_path(path), what=what, right=right)


def _with_loopbacks(facts: Facts, data: dict[str, Any]) -> Facts:
    """Facts whose loopback is inside router.loopbacks; what is no prefix there is told by the checks."""
    router = data.get("router")
    given = router.get("loopbacks") if isinstance(router, dict) else None
    prefixes = tuple(one for one in given if isinstance(one, str)) if isinstance(given, list) else ()
    return msgspec.structs.replace(facts, loopbacks=tuple(filter(_is_prefix, prefixes)))


def _is_prefix(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _others(found: Iterable[Finding], *, than: Sequence[Finding]) -> list[Finding]:
    """Without those about what another finding has already said that it is wrong."""
    bad = {finding.path for finding in than}
    return [
        finding
        for finding in found
        if not any(finding.path[:length] in bad for length in range(1, len(finding.path) + 1))
    ]


def is_of_password(finding: Finding) -> bool:
    """Whether it is about the file of a session's password, which the daemon goes on without: it may come."""
    is_of_session = finding.path[0] in ("neighbor", "listen") or finding.path[:2] == ("workload", "bgp")
    return is_of_session and finding.path[-1] in ("password_file", "key_file")


def _ends_session(former: Config, config: Config, finding: Finding) -> bool:
    """Whether sessions of the [[neighbor]], [[listen]] or [[workload.bgp]] with this password would have to begin
    anew."""
    *section, index = finding.path[: 3 if finding.path[0] == "workload" else 2]
    return begins_anew(former, config, ".".join(map(str, section)), int(index))


def _lost_session(finding: Finding) -> Finding:
    what = f"{finding.what}, and its sessions would have to begin anew with it"
    return Finding(finding.path, what, finding.right)


def _problems(findings: list[Finding], merged: Merged, files: Sequence[str]) -> list[Problem]:
    def place_of_entry(found: re.Match[str]) -> str:
        path = (*found[1].split("."), int(found[2]))
        file, line = merged.place(path)
        return f"{found[0]} ({files[file]}:{line})" if path in merged.places else found[0]

    placed = []
    for path, what, right in findings:
        place = merged.place(path)
        said = _ENTRY.sub(place_of_entry, what) if len(files) > 1 else what
        file = files[place.file] if files else ""
        placed.append((place, Problem(file=file, line=place.line, path=format_key_path(path), what=said, right=right)))
    return [problem for _, problem in sorted(placed, key=lambda one: one[0])]


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
