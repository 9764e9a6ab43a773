"""What bgpd is built from: licences that go with its own, and no version with a known vulnerability (`make lint`).

Asks no registry: licences are those that the installed packages say, vulnerabilities those of advisories.toml.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parent.parent
SHIPPED = "requirements-host.lock"
"""What the packages of bgpd bring along; all else stays where it is built and tested."""
LOCKS = (
    SHIPPED,
    "requirements.lock",
    "requirements-build.lock",
    "docs_site/requirements.lock",
    "tests/proof/requirements.lock",
)
PERMITTED = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0", "Unlicense"),
        *("Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License"),
        *("Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License", "Apache 2.0"),
    }
)
"""SPDX expressions, and the words of classifiers and of older packages. Whoever takes Apache-2.0 can take all of it."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ \\;]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """The versions that a lock names, by the normalised names of packages."""
    return {canonicalize_name(name): version for name, version in _PIN.findall((REPOSITORY / lock).read_text())}


def licences(name: str) -> list[str]:
    """What an installed package says of its licence; several: any of them may be chosen."""
    found = metadata(name)
    expression = found["License-Expression"] or ""
    if not expression:
        words = [one.rpartition(" :: ")[2] for one in found.get_all("Classifier", []) if one.startswith("License ::")]
        return words or [(found["License"] or "").strip().partition("\n")[0]]
    return [one.strip(" ()") for one in expression.split(" OR ")]


def is_permitted(choices: Sequence[str]) -> bool:
    """Whether one of the choices is; with AND all of its parts have to be."""
    return any(all(part.strip(" ()") in PERMITTED for part in choice.split(" AND ")) for choice in choices)


def wrong_licences() -> Iterator[str]:
    """Packages that are shipped under a licence that nobody has looked at."""
    for name in pins(SHIPPED):
        if not is_permitted(found := licences(name)):
            words = " or ".join(found) or "no licence"
            yield f"{SHIPPED}: {name} is under {words}, which is not in labs/dependencies.py"


def vulnerable(name: str, version: str, advisories: dict[str, list[dict[str, str]]]) -> list[str]:
    """What is known of this version."""
    known = advisories.get(canonicalize_name(name), [])
    return [
        f"{one['id']} ({one['what']}), fixed in {one['fixed']}"
        for one in known
        if Version(version) < Version(one["fixed"])
    ]


def vulnerabilities() -> Iterator[str]:
    """Pins, and the least versions that pyproject.toml takes, with a known vulnerability."""
    advisories: dict[str, Any] = tomllib.loads((REPOSITORY / "labs" / "advisories.toml").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found = [(lock, name, version) for lock in LOCKS for name, version in pins(lock).items()]
    for requirement in map(Requirement, project["dependencies"]):
        least = [one.version for one in requirement.specifier if one.operator == ">="]
        found += [("pyproject.toml", requirement.name, version) for version in least]
    for where, name, version in found:
        for what in vulnerable(name, version, advisories):
            yield f"{where}: {name} {version} has {what}"


def main() -> int:
    """Prints what is wrong; the exit status."""
    wrong = [*wrong_licences(), *vulnerabilities()]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
