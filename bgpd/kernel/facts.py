"""The facts that a configuration asks of this host, with the kernel's answer for its loopback."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from bgpd.config.facts import Facts, this_host
from bgpd.model.prefix import format_address, parse_prefix


def facts_of_host(*, given: Mapping[str, str] | None = None, otherwise: Mapping[str, str] | None = None) -> Facts:
    """Of the host and network namespace that this process runs in; see `Facts`."""
    once = functools.cache(_loopback)  # for one configuration: a variable may stand in it many times
    return this_host(lambda within: once(tuple(within)), given=given, otherwise=otherwise)


def _loopback(within: Sequence[str]) -> tuple[str, str]:
    from bgpd.kernel.loopback import read_loopback  # it takes msgspec with it, which most commands do without

    found = read_loopback([parse_prefix(prefix) for prefix in within])
    return format_address(found.ipv4) if found.ipv4 else "", format_address(found.ipv6) if found.ipv6 else ""
