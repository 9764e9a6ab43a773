"""What is malformed: one case for each rule of the RFCs.

The page "Malformed messages" of the site is made of them (docs_site/malformed.py); test_malformed.py holds them true.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.message.malformed_case import Answer, Case, answer
from tests.message.malformed_sessions import HEADERS, NOTIFICATIONS, OPENS, REFRESHES, STATES
from tests.message.malformed_updates import ATTRIBUTES, EVPN, FRAMES, MEMBERSHIPS, MULTIPROTOCOL

__all__ = ["CASES", "ELSEWHERE", "Answer", "Case", "answer"]

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
