"""[workload.addresses] of a draft: what several statements say of the host's own addresses, put together."""

from __future__ import annotations

from collections.abc import Sequence

from bgpd.migrate.draft import Draft, Place
from bgpd.model.policy_syntax import parse_prefix_range

SECTION = "workload.addresses"
USUAL_INTERFACES = ("lo", "dummy*")


def announce_addresses(
    draft: Draft, place: Place, what: object, *, interfaces: Sequence[str], prefixes: Sequence[str] = ()
) -> None:
    """Announce addresses on these interfaces that are inside the prefixes (none: any).

    One table has one list of each: where one statement names prefixes and another does not, they count for both.
    """
    is_first = not draft.of(SECTION)
    table = draft.section(SECTION)
    before = {key: _texts(table.values.get(key)) for key in ("interfaces", "prefixes")}
    table.put("interfaces", list(dict.fromkeys((*before["interfaces"], *(interfaces or USUAL_INTERFACES)))))
    table.remark(f"{place}: {what}")
    joined = list(dict.fromkeys((*before["prefixes"], *prefixes)))
    if joined:
        table.put("prefixes", joined)
    if not is_first and bool(prefixes) != bool(before["prefixes"]):
        why = "prefixes count for all interfaces here: fewer addresses are announced than before"
        draft.lose(place, f'"{what}": {why}', "add the prefixes that are missing", at=table)


def prefixes_of_hosts(ranges: Sequence[str]) -> list[str]:
    """The prefixes of those ranges that let whole addresses through."""
    found = []
    for text in ranges:
        read = parse_prefix_range(text)
        if read.most == (32 if "." in text else 128):
            found.append(text.split(" ")[0])
    return list(dict.fromkeys(found))


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
