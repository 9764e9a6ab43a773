"""What is malformed: one case for each rule of the RFCs.

The page "Malformed messages" of the site is made of them (docs_site/malformed.py); test_malformed.py holds them true.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.message.malformed_case import Answer, Case, answer
from tests.message.malformed_sessions import HEADERS, NOTIFICATIONS, OPENS, REFRESHES, STATES
from tests.message.malformed_updates import ATTRIBUTES, EVPN, FRAMES, MEMBERSHIPS, MULTIPROTOCOL

__all__ = ["CASES", "ELSEWHERE", "RFCS", "Answer", "Case", "answer", "by_rfc"]

CASES = [
    *HEADERS,
    *STATES,
    *OPENS,
    *NOTIFICATIONS,
    *REFRESHES,
    *FRAMES,
    *MULTIPROTOCOL,
    *ATTRIBUTES,
    *EVPN,
    *MEMBERSHIPS,
]


RFCS = (
    *(4271, 4360, 4456, 4724, 4760, 5065, 5492, 6286, 6793, 7311),
    *(7313, 7606, 8092, 8654, 8669, 9003, 9012, 9072, 9234, 9252),
)
"""The RFCs of which each message and attribute, and each error that they name, has a row."""


class Elsewhere(NamedTuple):
    """What is well-formed, and still not simply taken: `cost` in words, and the test that proves it."""

    what: str
    rfc: str
    cost: str
    test: str


ELSEWHERE = [
    Elsewhere(
        "several errors in one UPDATE",
        "RFC 7606 section 3 h",
        "the strongest reaction",
        "tests/message/test_update_decoder.py::test_the_strongest_reaction_wins",
    ),
    Elsewhere(
        "prefix that is withdrawn and announced in one UPDATE",
        "RFC 4271 section 4.3",
        "announced",
        "tests/message/test_update_decoder.py"
        "::test_a_prefix_in_a_withdrawn_and_in_a_reachable_field_is_announced_whichever_fields_these_are",
    ),
    Elsewhere(
        "unknown attribute that is transitive",
        "RFC 4271 section 5",
        "passed on, with the Partial bit",
        "tests/message/test_update_encoder.py::test_unrecognised_attributes_are_passed_on_with_the_partial_bit",
    ),
    Elsewhere(
        "confederation segment from an internal neighbor",
        "RFC 5065 section 5",
        "taken",
        "tests/message/test_attribute_decoder.py::test_internal_paths_may_be_empty_or_hold_confederation_segments",
    ),
    Elsewhere(
        "confederation segment in AS4_PATH",
        "RFC 6793 section 6",
        "left out",
        "tests/message/test_attribute_decoder.py::test_confederation_segments_of_as4_path_are_left_out",
    ),
    Elsewhere(
        "AS4_PATH longer than AS_PATH",
        "RFC 6793 section 4.2.3",
        "the attribute is ignored",
        "tests/message/test_attribute_decoder.py::test_as4_path_replaces_the_trailing_part_of_as_path",
    ),
    Elsewhere(
        "AGGREGATOR that is not AS_TRANS, beside AS4_AGGREGATOR",
        "RFC 6793 section 4.2.3",
        "AS4_AGGREGATOR and AS4_PATH are ignored",
        "tests/message/test_attribute_decoder.py::test_an_aggregator_with_a_real_as_number_voids_the_as4_attributes",
    ),
    Elsewhere(
        "extended community that is not transitive",
        "RFC 4360 section 6",
        "not sent to external neighbors",
        "tests/message/test_update_encoder.py::test_external_peers_get_our_as_in_front_and_nothing_internal",
    ),
    Elsewhere(
        "PREFIX_SID of an internal neighbor",
        "RFC 8669 section 5",
        "not sent to external neighbors",
        "tests/message/test_update_encoder.py::test_prefix_sid_of_an_internal_neighbor_stays_in_the_as",
    ),
    Elsewhere(
        "tunnel, sub-TLV or SRv6 service of an unknown type",
        "RFC 9012 section 13",
        "passed on",
        "tests/message/test_attribute_decoder.py::test_tunnels_and_srv6_services_are_passed_on_as_they_are",
    ),
    Elsewhere(
        "large community that stands there twice",
        "RFC 8092 section 5",
        "counts once",
        "tests/message/test_attribute_decoder.py::test_duplicate_large_communities_are_removed",
    ),
    Elsewhere(
        "refresh of a family that was not negotiated, or of an unknown subtype",
        "RFC 2918 section 4, RFC 7313 section 5",
        "ignored",
        "tests/speaker/test_exchange.py::test_route_refresh_of_a_family_that_is_not_negotiated_is_ignored",
    ),
    Elsewhere(
        "End-of-Route-Refresh that nothing has begun",
        "RFC 7313 section 4",
        "ignored",
        "tests/rib/test_refresh.py::test_an_end_without_a_beginning_removes_nothing",
    ),
    Elsewhere(
        "own AS in the AS_PATH",
        "RFC 4271 section 9.1.2",
        "kept, not used",
        "tests/rib/test_rib.py::test_own_as_in_the_path_is_a_loop_unless_allowed",
    ),
    Elsewhere(
        "own router ID in ORIGINATOR_ID or CLUSTER_LIST",
        "RFC 4456 section 8",
        "kept, not used",
        "tests/rib/test_rib.py::test_reflection_loop_is_rejected",
    ),
    Elsewhere(
        "next hop that is in no network of the neighbor's",
        "RFC 4271 section 6.3",
        "kept, not used",
        "tests/rib/test_next_hops.py::test_other_networks_may_not",
    ),
    Elsewhere(
        "OTC from a customer, or of another AS from a peer",
        "RFC 9234 section 5",
        "kept, not used",
        "tests/rib/test_roles.py::test_a_route_with_otc_from_a_customer_or_a_client_is_a_leak",
    ),
    Elsewhere(
        "OTC of a route that is no IPv4 or IPv6 unicast",
        "RFC 9234 section 5",
        "ignored",
        "tests/rib/test_roles.py::test_only_unicast_routes_have_rules",
    ),
    Elsewhere(
        "a neighbor that restarts and does not keep its forwarding state",
        "RFC 4724 section 4.2",
        "its routes are removed",
        "tests/rib/test_stale.py::test_what_goes_when_the_neighbor_is_back",
    ),
    Elsewhere(
        "a neighbor that restarts and sends no End-of-RIB",
        "RFC 4724 section 4.2",
        "its stale routes are removed when their time is over",
        "tests/rib/test_stale.py::test_restart_time_then_stale_time_then_end_of_rib",
    ),
    Elsewhere(
        "more prefixes than max_prefixes",
        "RFC 4486 section 4",
        "Cease 6/1, or the rest is discarded",
        "tests/daemon/test_max_prefixes.py::test_a_neighbor_that_was_reset_comes_back_when_its_time_is_over",
    ),
    Elsewhere(
        "more bytes of attributes than max_attribute_bytes",
        "RFC 4486 section 4",
        "Cease 6/8",
        "tests/rib/test_resources.py::test_too_many_bytes_are_told_once",
    ),
    Elsewhere(
        "no KEEPALIVE or UPDATE within the hold time",
        "RFC 4271 section 6.5",
        "Hold Timer Expired 4/0",
        "tests/speaker/test_session.py::test_hold_timer_expires_without_keepalives",
    ),
    Elsewhere(
        "two connections at once",
        "RFC 4271 section 6.8",
        "Cease 6/7 for one of them",
        "tests/speaker/test_collision.py::test_higher_router_id_keeps_the_connection_that_it_made",
    ),
    Elsewhere(
        "an UPDATE that bgpd itself cannot cope with",
        "none: it is a defect",
        "the session ends, and waits longer each time",
        "tests/speaker/test_exchange.py::test_update_that_the_decoder_cannot_cope_with_is_no_fault_of_the_neighbors",
    ),
]


def by_rfc() -> dict[int, dict[str, int]]:
    """How many rows each RFC that a row names has, by the part of BGP; "" is of those that are proved elsewhere."""
    named = [(case.rfc, case.about) for case in CASES] + [(row.rfc, "") for row in ELSEWHERE]
    found: dict[int, dict[str, int]] = {}
    for rfc, about in named:
        for number in map(int, re.findall(r"RFC (\d+)", rfc)):
            parts = found.setdefault(number, {})
            parts[about] = parts.get(about, 0) + 1
    return dict(sorted(found.items()))
