"""Regular expressions over AS paths as FRR and GoBGP write them, with "_" for a delimiter. Sans-IO."""

from __future__ import annotations

import re

from bgpd.migrate.filters import Inexpressible

_DELIMITER = r"(?:^|[ ,{}()]|$)"
"""It takes the character: "1_2" is two AS numbers."""
_EDGE = re.compile(r"^_(?=[0-9])|(?<=[0-9])_$|(?<=[0-9]\])_$")
"""Here it is the same as a word boundary, which is easier to read."""


def without_delimiters(pattern: str) -> str:
    """The same expression as a rule has it.

    Raises: Inexpressible: "_" is one of a class of characters, or escaped.
    """
    if re.search(r"[\[\\][^\]]*_", pattern):
        raise Inexpressible(f'"{pattern}": "_" within brackets')
    return _EDGE.sub(r"\\b", pattern).replace("_", _DELIMITER)
