"""The decision process step by step, each named by its number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN, Origin
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source, SourceKind
from bgpd.rib.comparison import MULTIPATH_MAXIMUM, compare
from bgpd.rib.decision import BEST, MULTIPATH, RULES, Step, decide, lost_at, reason
from tests.rib.build import LOCAL, attributes, hop, leaf


def path(
    source: Source,
    given: Attributes,
    *,
    next_hop: NextHop | None = None,
    rejected: str = "",
    overlay: Overlay | None = None,
) -> Path:
    return Path.of(
        source=source,
        attributes=given,
        next_hop=next_hop or hop("10.0.1.2"),
        received=given,
        heard_at=0.0,
        rejected=rejected,
        overlay=overlay,
    )


def unusable(candidate: Path) -> str:
    return candidate.rejected


def reasons(candidates: Sequence[Path]) -> list[str]:
    outcome = decide(candidates, unusable)
    return [reason(candidates, outcome, index, unusable) for index in range(len(candidates))]


IBGP = leaf(9, kind=SourceKind.IBGP, asn=65203, name="peer9")


def remote(number: int) -> Source:
    """A host as its EVPN routes by leaf1 make it known."""
    return by_leaf(1, bytes((10, 0, 0, number)))


def by_leaf(number: int, origin: bytes) -> Source:
    source = leaf(number, kind=SourceKind.EVPN, name=f"leaf{number} of {origin.hex()}")
    return msgspec.structs.replace(source, origin=origin)


def moved(sequence: int, **fields: object) -> Attributes:
    return attributes(extended_communities=(b"\6\0\0\0" + sequence.to_bytes(4, "big"),), **fields)


@pytest.mark.parametrize(
    ("winner", "loser", "why"),
    [
        pytest.param(
            path(leaf(2), attributes(1, 2, 3)),
            path(leaf(1), attributes(1), rejected="policy says no"),
            "policy says no (step 0)",
            id="step 0",
        ),
        pytest.param(
            path(remote(2), moved(7)),
            path(remote(1), moved(3, local_pref=900)),
            "the best route has MAC mobility sequence 7 of 10.0.0.2, this one 3 of 10.0.0.1 (step 1)",
            id="step 1",
        ),
        pytest.param(
            path(LOCAL, attributes()),
            path(leaf(1), attributes(local_pref=900)),
            "the best route is this host's own (step 2)",
            id="step 2",
        ),
        pytest.param(
            path(LOCAL, attributes()),
            path(Source(name="aggregate", kind=SourceKind.AGGREGATE), attributes()),
            "the best route is this host's own, this one an aggregate of this host's (step 2)",
            id="step 2 of an aggregate",
        ),
        pytest.param(
            path(leaf(2), attributes(1, 2, local_pref=200)),
            path(leaf(1), attributes(1)),
            "the best route has the higher LOCAL_PREF: 200, this one 100 (step 3)",
            id="step 3",
        ),
        pytest.param(
            path(leaf(2), attributes(1, 2)),
            path(leaf(1), attributes(1, local_pref=0, communities=(COMMUNITY_GRACEFUL_SHUTDOWN,))),
            "the best route has the higher LOCAL_PREF: 100, this one 0 for GRACEFUL_SHUTDOWN (step 3)",
            id="step 3 of a drained router",
        ),
        pytest.param(
            path(leaf(2), attributes(1)),
            path(leaf(1), attributes(1, local_pref=0)),
            "the best route has the higher LOCAL_PREF: 100, this one 0 (step 3)",
            id="step 3 of a LOCAL_PREF of 0",
        ),
        pytest.param(
            path(leaf(2), attributes(1, local_pref=50)),
            path(leaf(1), attributes(1, local_pref=40, communities=(COMMUNITY_GRACEFUL_SHUTDOWN,))),
            "the best route has the higher LOCAL_PREF: 50, this one 40 (step 3)",
            id="step 3 of a drained router whose LOCAL_PREF a policy has set",
        ),
        pytest.param(
            path(leaf(2), attributes(1, 2, local_pref=1)),
            path(leaf(1), attributes(1, local_pref=900).least_preferred()),
            "the best route is not stale, this one long-lived stale (step 12)",
            id="step 12",
        ),
        pytest.param(
            path(leaf(2), attributes(1, 2, origin=Origin.INCOMPLETE)),
            path(leaf(1), attributes(1, 2, 3, 4)),
            "the best route has the shorter AS path: 2, this one 4 (step 4)",
            id="step 4",
        ),
        pytest.param(
            path(leaf(2), attributes(1, med=50)),
            path(leaf(1), attributes(1, origin=Origin.INCOMPLETE)),
            "the best route has the lower ORIGIN: IGP, this one INCOMPLETE (step 5)",
            id="step 5",
        ),
        pytest.param(
            path(leaf(2), attributes(1)),
            path(leaf(1), attributes(1, med=50)),
            "the best route has the lower MED: 0, this one 50 (step 6)",
            id="step 6",
        ),
        pytest.param(
            path(leaf(2), attributes(1)),
            path(leaf(1, kind=SourceKind.IBGP), attributes(1)),
            "the best route was learned by EBGP, this one by IBGP (step 7)",
            id="step 7",
        ),
        pytest.param(
            path(leaf(1, kind=SourceKind.IBGP), attributes(1)),
            path(leaf(2, kind=SourceKind.IBGP), attributes(1)),
            "the best route has the lower router ID: 10.0.0.1, this one 10.0.0.2 (step 9)",
            id="step 9",
        ),
        pytest.param(
            path(leaf(1, kind=SourceKind.IBGP), attributes(1, originator_id=b"\1\1\1\1")),
            path(leaf(2, kind=SourceKind.IBGP), attributes(1, originator_id=b"\1\1\1\1", cluster_list=(b"abcd",))),
            "the best route has the shorter CLUSTER_LIST: 0, this one 1 (step 10)",
            id="step 10",
        ),
        pytest.param(
            path(leaf(1, kind=SourceKind.IBGP), attributes(1, originator_id=b"\1\1\1\1")),
            path(leaf(2, kind=SourceKind.IBGP), attributes(1, originator_id=b"\1\1\1\1")),
            "the best route has the lower peer address or name: 10.0.1.2 of leaf1, "
            "this one 10.0.2.2 of leaf2 (step 11)",
            id="step 11",
        ),
    ],
)
def test_loser_is_told_by_which_step(winner: Path, loser: Path, why: str) -> None:
    assert reasons([winner, loser]) == ["", why]
    assert reasons([loser, winner]) == [why, ""]


def test_step_1_gives_a_host_that_moved_away_to_where_it_is_and_back() -> None:
    here, there, back = path(LOCAL, moved(4)), path(remote(1), moved(5)), path(LOCAL, moved(6))
    assert decide((here, there), unusable)[0] == (there,)
    assert decide((back, there), unusable)[0] == (back,)


@pytest.mark.parametrize("byte", range(4))
def test_step_1_compares_all_four_bytes_of_a_sequence(byte: int) -> None:
    candidates = [path(remote(1), moved(1 << 8 * byte)), path(remote(2), moved(2 << 8 * byte))]
    assert decide(candidates, unusable)[1] == bytes((1, BEST))


def test_step_1_does_not_compare_a_workload_without_a_sequence() -> None:
    candidates = [path(LOCAL, attributes()), path(remote(1), moved(5)), path(leaf(1), attributes(1))]
    assert decide(candidates, unusable)[1] == bytes((BEST, 2, 2))


def test_step_1_prefers_a_sticky_host_to_any_sequence() -> None:
    sticky = attributes(extended_communities=(bytes.fromhex("0600010000000000"),))
    candidates = [path(remote(1), moved(5)), path(remote(2), sticky), path(remote(3), sticky)]
    assert decide(candidates, unusable)[1] == bytes((1, BEST, 1))
    assert reasons(candidates)[0] == (
        "the best route has MAC mobility sequence sticky of 10.0.0.2, this one 5 of 10.0.0.1 (step 1)"
    )


def test_step_1_keeps_the_paths_of_one_originator_by_two_leaves_and_the_lower_of_two_originators() -> None:
    candidates = [path(remote(1), moved(5)), path(by_leaf(2, b"\x0a\0\0\1"), moved(5)), path(remote(2), moved(5))]
    assert decide(candidates, unusable)[1] == bytes((BEST, MULTIPATH, 1))


def test_step_1_knows_an_originator_by_any_form_of_its_route_distinguisher() -> None:
    distinguisher = bytes.fromhex("0000fe91000003e9")
    other = bytes.fromhex("0000fe92000003e9")
    candidates = [path(by_leaf(number, distinguisher), moved(5)) for number in (1, 2)]
    candidates.append(path(by_leaf(1, other), moved(5)))
    assert decide(candidates, unusable)[1] == bytes((BEST, MULTIPATH, 1))
    assert (
        reasons(candidates)[2]
        == "the best route has MAC mobility sequence 5 of 65169:1001, this one 5 of 65170:1001 (step 1)"
    )


def test_step_1_takes_two_leaves_of_one_ethernet_segment_for_one_place() -> None:
    segment, zero = Overlay(bytes(9) + b"\7", (5001,)), Overlay(bytes(10), (5001,))
    first, second = (path(remote(number), moved(5), overlay=segment) for number in (1, 3))
    between = path(remote(2), moved(5), overlay=zero)
    assert decide((first, between, second), unusable)[1] == bytes((BEST, 1, MULTIPATH))
    lower = path(remote(0), moved(5), overlay=zero)
    assert decide((first, lower, second), unusable)[1] == bytes((1, BEST, 1))
    alone = [path(remote(number), moved(5), overlay=zero) for number in (1, 3)]
    assert decide(alone, unusable)[1] == bytes((BEST, 1))


def test_step_1_leaves_hosts_that_never_moved_to_multipath() -> None:
    candidates = [path(remote(1), attributes()), path(remote(2), moved(0))]
    assert decide(candidates, unusable)[1] == bytes((BEST, MULTIPATH))


def test_step_2_knows_no_difference_between_evpn_and_ebgp() -> None:
    """A host route by EVPN and a route by eBGP compete by the later steps; own routes beat both."""
    evpn, ebgp = path(remote(1), attributes(1)), path(leaf(2), attributes(1))
    assert decide((evpn, ebgp), unusable)[1] == bytes((BEST, MULTIPATH))
    assert decide((ebgp, evpn), unusable)[1] == bytes((MULTIPATH, BEST))
    longer = path(remote(1), attributes(1, 2))
    assert decide((longer, ebgp), unusable)[1] == bytes((4, BEST))
    preferred = path(remote(1), attributes(1, 2, local_pref=200))
    assert decide((preferred, ebgp), unusable)[1] == bytes((BEST, 3))
    aggregate = path(Source(name="aggregate", kind=SourceKind.AGGREGATE), attributes(local_pref=1))
    assert decide((preferred, ebgp, aggregate), unusable)[1] == bytes((2, 2, BEST))
    workload = path(LOCAL, attributes(local_pref=1))
    candidates = (preferred, ebgp, aggregate, workload)
    assert decide(candidates, unusable)[1] == bytes((2, 2, 2, BEST))
    assert reasons(candidates)[2] == "the best route is this host's own, this one an aggregate of this host's (step 2)"


def test_step_1_puts_a_host_that_moved_before_ebgp_and_one_that_never_did_beside_it() -> None:
    ebgp = path(leaf(2), moved(9, local_pref=900))
    assert decide((ebgp, path(remote(1), moved(1))), unusable)[1] == bytes((1, BEST))
    assert decide((ebgp, path(remote(1), moved(0))), unusable)[1] == bytes((BEST, 3))


def test_step_6_compares_med_only_within_one_neighboring_as() -> None:
    candidates = [path(leaf(1), attributes(1, med=50)), path(leaf(2), attributes(2, med=10))]
    assert decide(candidates, unusable)[1] == bytes((BEST, MULTIPATH))


def test_step_6_names_the_rival_when_the_best_is_of_another_as() -> None:
    candidates = [
        path(leaf(1), attributes(2, med=90)),
        path(leaf(2), attributes(1, med=50)),
        path(leaf(3), attributes(1, med=10)),
    ]
    assert reasons(candidates)[1] == "leaf3, of the same neighboring AS, has the lower MED: 10, this one 50 (step 6)"


def test_multipath_takes_external_paths_of_different_as_paths() -> None:
    candidates = [path(leaf(1), attributes(1, 7)), path(leaf(2), attributes(2, 8)), path(leaf(3), attributes(2, 8, 9))]
    multipath, steps = decide(candidates, unusable)
    assert multipath == tuple(candidates[:2])
    assert steps == bytes((BEST, MULTIPATH, 4))
    assert reasons(candidates)[1] == "used beside the best route: equal through step 8"


def test_internal_paths_make_no_multipath() -> None:
    candidates = [path(leaf(n, kind=SourceKind.IBGP), attributes(1)) for n in (1, 2)]
    assert decide(candidates, unusable)[0] == (candidates[0],)


def test_multipath_is_capped_and_the_rest_lose_by_a_step() -> None:
    candidates = [path(leaf(n), attributes(1)) for n in range(1, MULTIPATH_MAXIMUM + 3)]
    multipath, steps = decide(candidates, unusable)
    assert len(multipath) == MULTIPATH_MAXIMUM
    assert steps[-2:] == bytes((9, 9))


def test_no_usable_path_gives_no_best() -> None:
    candidates = [path(leaf(1), attributes(1), rejected="no"), path(leaf(2), attributes(1), rejected="no")]
    assert decide(candidates, unusable) == ((), b"\0\0")
    assert decide(candidates[:1], unusable) == ((), b"\0")


some_attributes = st.builds(
    lambda asns, med, pref, origin: attributes(*asns, med=med, local_pref=pref, origin=origin),
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from((None, 0, 10, 20)),
    st.sampled_from((None, 100, 200)),
    st.sampled_from((Origin.IGP, Origin.EGP)),
)
some_kinds = st.sampled_from((SourceKind.EBGP, SourceKind.IBGP, SourceKind.WORKLOAD))


@given(st.lists(st.tuples(some_attributes, some_kinds, st.booleans()), min_size=1, max_size=6), st.randoms())
def test_outcome_does_not_depend_on_the_order_of_candidates(drawn, random) -> None:  # type: ignore[no-untyped-def]
    candidates = [
        path(leaf(number, kind=kind), one, rejected="no" if rejected else "")
        for number, (one, kind, rejected) in enumerate(drawn)
    ]
    multipath, steps = decide(candidates, unusable)
    by_path = dict(zip(candidates, steps))
    assert all(reasons(candidates)[index] for index, step in enumerate(steps) if step != BEST)
    random.shuffle(candidates)
    again, steps = decide(candidates, unusable)
    assert again == multipath
    assert dict(zip(candidates, steps)) == by_path


def test_rules_are_the_steps_in_order() -> None:
    assert [rule.step for rule in RULES] == list(Step)
    assert len({rule.wins for rule in RULES}) == len(RULES)


SECTIONS = (
    "RFC 4271 9.1.2.1",
    "RFC 7432 7.7, 15",
    "bgpd",
    "RFC 4271 9.1.1",
    "RFC 4271 9.1.2.2 a, RFC 5065",
    "RFC 4271 9.1.2.2 b",
    "RFC 4271 9.1.2.2 c",
    "RFC 4271 9.1.2.2 d",
    "RFC 4271 9.1.2.2 e",
    "RFC 4271 9.1.2.2 f, RFC 4456 9",
    "RFC 4456 9",
    "RFC 4271 9.1.2.2 g",
    "RFC 9494 4.3",
)


def test_the_order_in_which_steps_are_taken_is_that_of_their_numbers_but_for_long_lived_routes() -> None:
    """RFC 9494 section 4.3: before LOCAL_PREF. `bgpd show` lists losers by it."""
    others = [step for step in Step if step is not Step.LONG_LIVED]
    before = others.index(Step.LOCAL_PREF)
    assert sorted(Step, key=lost_at) == [*others[:before], Step.LONG_LIVED, *others[before:]]


@pytest.mark.parametrize("step", Step)
def test_rule_says_who_says_so(step: Step) -> None:
    rule = RULES[step]
    assert rule.section == SECTIONS[step]
    compares = step not in (Step.USABLE, Step.INTERIOR_COST)
    assert bool(rule.best_has) is bool(rule.value(path(leaf(1), attributes(1)))) is compares


def test_step_9_goes_by_the_originator_where_there_is_one() -> None:
    first, second = leaf(1, kind=SourceKind.IBGP), leaf(2, kind=SourceKind.IBGP)
    reflected = path(first, attributes(1, originator_id=b"\x0a\0\0\x09"))
    assert reasons([reflected, path(second, attributes(1))]) == [
        "the best route has the lower router ID: 10.0.0.2, this one 10.0.0.9 (step 9)",
        "",
    ]


def test_step_6_names_a_rival_that_lost_at_a_later_step_only() -> None:
    """One of the same AS that is long-lived stale has lost before: it had the lowest MED, and was never compared."""
    stale = path(leaf(4), attributes(1, med=1).least_preferred())
    worse = path(leaf(3), attributes(1, med=50))
    better = path(leaf(5, kind=SourceKind.IBGP), attributes(1, med=10))
    best = path(leaf(1), attributes(2))
    candidates = [stale, worse, better, best]
    assert decide(candidates, unusable)[1] == bytes((12, 6, 7, BEST))
    assert reasons(candidates)[1] == "leaf5, of the same neighboring AS, has the lower MED: 10, this one 50 (step 6)"


def test_a_path_that_cannot_be_used_for_no_reason_that_is_known_says_so() -> None:
    candidates = [path(leaf(1), attributes(1)), path(leaf(2), attributes(1), rejected="no")]
    outcome = decide(candidates, unusable)
    assert reason(candidates, outcome, 1, lambda _: "") == "not usable (step 0)"


reflected_attributes = st.builds(
    lambda one, originator, clusters, bandwidth: one.changed(
        originator_id=originator, cluster_list=clusters, extended_communities=bandwidth
    ),
    some_attributes,
    st.sampled_from((None, None, None, bytes((10, 0, 0, 2)))),
    st.sampled_from(((), (), (), (b"\1\1\1\1",))),
    st.sampled_from(((), (), (), (bytes.fromhex("4004fde94e000000"),))),
)
neighbors = st.tuples(
    st.one_of(some_attributes, reflected_attributes),
    st.sampled_from((SourceKind.EBGP, SourceKind.EBGP, SourceKind.EBGP, SourceKind.IBGP, SourceKind.WORKLOAD)),
    st.sampled_from((1, 1, 2, 3)),
)


@given(st.one_of(st.lists(neighbors, min_size=2, max_size=2), st.lists(neighbors, min_size=1, max_size=6)))
def test_numbers_alone_say_what_the_numbered_steps_say(drawn) -> None:  # type: ignore[no-untyped-def]
    candidates = []
    for number, (one, kind, router) in enumerate(drawn):
        source = msgspec.structs.replace(leaf(number, kind=kind), router_id=bytes((10, 0, 0, router)))
        candidates.append(path(source, one))
        candidates[-1].via.is_usable = True
    multipath = compare(tuple(candidates))
    if multipath is None:
        assert any(one.source.is_local or not one.attributes.is_simple for one in candidates) or sum(
            one.source.kind is SourceKind.IBGP for one in candidates
        )
    else:
        assert multipath == decide(candidates, unusable)[0]
        assert len(multipath) == 1 or not any(one.attributes.packed_extended_communities for one in multipath)


def test_numbers_tell_two_neighbors_apart_whatever_else_they_announce() -> None:
    def best(first: Attributes, second: Attributes) -> list[int]:
        both = path(leaf(1), first), path(leaf(2), second)
        for one in both:
            one.via.is_usable = True
        found = compare(both)
        assert found == decide(both, unusable)[0]
        return [both.index(one) for one in found or ()]

    bandwidth = (bytes.fromhex("4004fde94e000000"),)
    assert best(attributes(1, 2, extended_communities=bandwidth), attributes(1, med=5)) == [1]
    assert best(attributes(1, med=5), attributes(1, med=5)) == [0, 1]
    assert best(attributes(1, med=5), attributes(1)) == [1]
    assert best(attributes(1, med=0), attributes(1)) == [0, 1]
    assert best(attributes(1, med=5), attributes(2)) == [0, 1]


def test_numbers_put_paths_that_are_equal_in_order_though_a_worse_one_is_among_them() -> None:
    candidates = tuple(path(leaf(number), attributes(*asns)) for number, asns in ((2, (1,)), (1, (1,)), (3, (1, 2))))
    for one in candidates:
        one.via.is_usable = True
    assert compare(candidates) == decide(candidates, unusable)[0] == (candidates[1], candidates[0])


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_numbers_put_paths_that_are_all_equal_in_order(order: tuple[int, ...]) -> None:
    candidates = tuple(path(leaf(number), attributes(1)) for number in order)
    for one in candidates:
        one.via.is_usable = True
    assert compare(candidates) == decide(candidates, unusable)[0] == tuple(candidates[order.index(n)] for n in range(4))


@pytest.mark.parametrize("byte", range(4))
def test_the_neighboring_as_is_four_bytes(byte: int) -> None:
    """MED counts among paths of the same neighboring AS, whatever else is in the path."""
    other = 1 + (1 << 8 * byte)
    for asns, best in (((1, 9), (other, 9)), [0, 1]), (((1, 9), (1, 9 + other)), [1]):
        both = tuple(path(leaf(n), attributes(*path_, med=med)) for n, path_, med in zip((1, 2), asns, (7, 5)))
        for one in both:
            one.via.is_usable = True
        assert compare(both) == decide(both, unusable)[0] == tuple(both[n] for n in best)


@pytest.mark.parametrize("origin", [Origin.IGP, Origin.EGP, Origin.INCOMPLETE])
@pytest.mark.parametrize("asns", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_numbers_compare_med_whatever_the_rank_is(asns: tuple[int, ...], origin: Origin) -> None:
    both = [path(leaf(number), attributes(*asns, origin=origin, med=med)) for number, med in ((1, 5), (2, None))]
    for one in both:
        one.via.is_usable = True
    for candidates in (tuple(both), tuple(reversed(both))):
        assert compare(candidates) == decide(candidates, unusable)[0] == (both[1],)


@pytest.mark.parametrize(("better", "worse"), [(Origin.IGP, Origin.EGP), (Origin.EGP, Origin.INCOMPLETE)])
def test_numbers_of_more_than_two_neighbors_tell_each_origin_apart(better: Origin, worse: Origin) -> None:
    origins = (worse, better, worse, better)
    candidates = tuple(path(leaf(number), attributes(1, origin=one)) for number, one in enumerate(origins))
    for one in candidates:
        one.via.is_usable = True
    assert compare(candidates) == decide(candidates, unusable)[0] == (candidates[1], candidates[3])


def test_numbers_of_more_than_two_neighbors_do_not_say_which_med_counts() -> None:
    candidates = tuple(path(leaf(number), attributes(1, med=med)) for number, med in ((1, None), (2, 5), (3, None)))
    for one in candidates:
        one.via.is_usable = True
    assert compare(candidates) is None
    worse = (*candidates[1:2], path(leaf(4), attributes(2, 3, med=7)), path(leaf(5), attributes(2, 3)))
    for one in worse:
        one.via.is_usable = True
    assert compare(worse) == decide(worse, unusable)[0] == (candidates[1],)


def test_a_multipath_set_is_as_large_as_a_kernel_group() -> None:
    assert MULTIPATH_MAXIMUM == 64


def test_numbers_alone_take_no_more_than_a_kernel_group_has() -> None:
    candidates = tuple(path(leaf(number), attributes(1)) for number in range(1, MULTIPATH_MAXIMUM + 3))
    assert compare(candidates) is None
    for one in candidates:
        one.via.is_usable = True
    assert compare(candidates) == decide(candidates, unusable)[0]


LONG_PATH = tuple(range(1, 71))
"""Its attribute is longer than 255 bytes, and so has a length of two."""


@pytest.mark.parametrize("asns", [(1,), LONG_PATH])
@pytest.mark.parametrize(("meds", "best"), [((5, 7), 0), ((7, 5), 1), ((0, 1), 0), ((1, None), 1), ((256, 1), 1)])
def test_med_is_read_from_the_block_behind_attributes_of_any_length(
    asns: tuple[int, ...], meds: tuple[int | None, int | None], best: int
) -> None:
    both = tuple(path(leaf(number), attributes(*asns, med=med)) for number, med in zip((1, 2), meds))
    for one in both:
        one.via.is_usable = True
    assert compare(both) == decide(both, unusable)[0] == (both[best],)


def test_med_of_two_neighboring_as_is_not_compared_and_what_stands_behind_many_communities_is_seen() -> None:
    others = tuple(path(leaf(number), attributes(asn, 9, med=med)) for number, asn, med in ((1, 3, 7), (2, 4, 5)))
    many = tuple(range(80))
    told = attributes(1, communities=many, med=5)
    weighed = attributes(1, communities=many, med=5, extended_communities=(b"\x40\x04\xfe\x10\x47\x74\x24\x00",))
    alike = (path(leaf(1), told), path(leaf(2), told))
    with_bandwidth = (path(leaf(1), told), path(leaf(2), weighed))
    for one in (*others, *alike, *with_bandwidth):
        one.via.is_usable = True
    assert compare(others) == decide(others, unusable)[0] == others
    assert compare(alike) == decide(alike, unusable)[0] == alike
    assert compare(with_bandwidth) is None
