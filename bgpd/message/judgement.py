"""The reaction to an UPDATE as a whole, given all errors found in it (RFC 7606 sections 2, 3 and 5).

The strongest reaction wins (section 3 h), and treat-as-withdraw requires that all NLRI could be parsed (section 5.2).
The reaction to a single error is decided where the error is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from bgpd.message.update_sections import HEADER_SECTION, UpdateSections, fatal
from bgpd.model.attributes import Attributes
from bgpd.model.iana import ErrorCode, Family, UpdateSubcode
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import RouteBatch
from bgpd.model.wire import NlriRoutes, Reaction, RouteGroup, WireError


class DecodedUpdate(msgspec.Struct):
    """What one UPDATE says and costs.

    With a session reset nothing of it may be used and `notification` is (code, subcode, data). With treat-as-withdraw
    the batches already carry the announced routes as withdrawn.
    """

    batches: list[RouteBatch] = []
    end_of_rib: Family | None = None
    reaction: Reaction = Reaction.ACCEPT
    errors: list[WireError] = []
    notification: tuple[int, int, bytes] | None = None


class FieldRoutes(msgspec.Struct):
    """The routes of one NLRI field."""

    family: Family
    withdrawn: Sequence[bytes] = ()
    announced: Sequence[RouteGroup] = ()
    next_hop: NextHop | None = None


def all_keys(routes: NlriRoutes) -> Sequence[bytes]:
    """All keys of a field of withdrawn routes, the malformed ones included."""
    if len(routes.announced) == 1 and not routes.malformed:
        return routes.announced[0].keys
    return [*chain.from_iterable(group.keys for group in routes.announced), *routes.malformed]


def batches_of(routes: list[FieldRoutes], attributes: Attributes) -> list[RouteBatch]:
    """The routes of all fields as batches, the withdrawn ones of each first."""
    batches = []
    for one in routes:
        withdrawn = one.withdrawn
        for group in one.announced:
            batches.append(
                RouteBatch(
                    family=one.family,
                    withdrawn=withdrawn,
                    announced=group.keys,
                    attributes=attributes,
                    next_hop=one.next_hop,
                    overlay=group.overlay,
                    labels=group.labels,
                )
            )
            withdrawn = ()
        if withdrawn:
            batches.append(RouteBatch(family=one.family, withdrawn=withdrawn))
    return batches


def _withdrawals(routes: list[FieldRoutes]) -> list[RouteBatch]:
    """All routes of the UPDATE as withdrawn ones (RFC 7606 section 2)."""
    batches = []
    for one in routes:
        keys = [*one.withdrawn, *chain.from_iterable(group.keys for group in one.announced)]
        if keys:
            batches.append(RouteBatch(family=one.family, withdrawn=keys))
    return batches


def judge(
    sections: UpdateSections, routes: list[FieldRoutes], attributes: Attributes, errors: list[WireError]
) -> DecodedUpdate:
    """What an UPDATE with errors costs: the strongest reaction wins; errors of single routes cost only those routes."""
    worst = max(errors, key=lambda error: error.reaction.strength)
    if worst.reaction is Reaction.SESSION_RESET:
        return session_reset(errors)
    whole = [error for error in errors if error.reaction is Reaction.TREAT_AS_WITHDRAW and not error.one_route]
    if not whole:
        return DecodedUpdate(batches=batches_of(routes, attributes), reaction=worst.reaction, errors=errors)
    unread = next((error for error in whole if not error.is_readable), None)
    if unread is not None and sections.block and not sections.has_reachable:
        message = "no reachable NLRI, so that treat-as-withdraw cannot be sure of having read all"
        errors.append(fatal(message, "RFC 7606 section 5.2", unread.attribute, unread.subcode, unread.data))
        return session_reset(errors)
    return DecodedUpdate(batches=_withdrawals(routes), reaction=worst.reaction, errors=errors)


def session_reset(errors: list[WireError]) -> DecodedUpdate:
    """An UPDATE that ends the session, by the first of its errors that does."""
    worst = next(error for error in errors if error.reaction is Reaction.SESSION_RESET)
    code = ErrorCode.MESSAGE_HEADER if worst.section == HEADER_SECTION else ErrorCode.UPDATE_MESSAGE
    return DecodedUpdate(
        reaction=Reaction.SESSION_RESET, errors=errors, notification=(int(code), worst.subcode, worst.data)
    )


def note_missing(missing: tuple[str, ...], errors: list[WireError]) -> None:
    """Mandatory attributes that are missing are an error each (RFC 7606 section 3 d)."""
    subcode = UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE
    message, section = "mandatory attribute is missing", "RFC 7606 section 3 d"
    errors += [WireError(Reaction.TREAT_AS_WITHDRAW, message, section, name, subcode) for name in missing]
