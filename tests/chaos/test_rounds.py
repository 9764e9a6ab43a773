"""Which steps a chaos run makes: a seed is enough to make them again, and a list of them can be cut."""

from __future__ import annotations

import itertools

from tests.chaos.checks import found_dead
from tests.chaos.model import ALWAYS, CHURN, Claim, Model
from tests.chaos.run import Step, parse_rounds, parse_seed, rounds_of

NAMES = [f"step{number}" for number in range(10)]


def test_seed_says_which_steps_are_made_in_which_order() -> None:
    first, again, other = (list(itertools.islice(rounds_of(seed, NAMES), 20)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_each_step_comes_as_often_as_the_others() -> None:
    steps = [step for steps in itertools.islice(rounds_of(7, NAMES), 20) for step in steps]
    assert sorted(step.name for step in steps[:10]) == NAMES
    assert [step.number for step in steps] == list(range(len(steps)))


def test_list_of_steps_is_read_with_lines_left_out() -> None:
    text = "# seed 12\n\nstep1 4  # leaf1: why\nstep2 5\n\n\nstep3 9\n"
    assert parse_seed(text) == 12
    assert parse_rounds(text) == [[Step("step1", 4), Step("step2", 5)], [Step("step3", 9)]]


def test_model_has_a_prefix_by_all_leaves_that_announce_it_unless_it_is_taken() -> None:
    model = Model()
    assert model.kernel()["10.30.0.0/24"] == ["10.0.1.2%eth0", "10.0.2.2%eth1"]
    assert set(model.kernel()) == set().union(*ALWAYS.values())
    for number in (1, 3, 4):
        model.announced[number] |= set(CHURN[:2])
    assert model.kernel()[CHURN[0]] == ["10.0.1.2%eth0", "10.0.3.2%eth2", "eth3"], "leaf4 is unnumbered"
    model.has_policy, model.without = True, {4}
    assert model.kernel()[CHURN[0]] == ["10.0.3.2%eth2"], "the policy has it"
    assert model.kernel()[CHURN[1]] == ["10.0.1.2%eth0", "10.0.3.2%eth2"]
    model.foreign = {CHURN[0]}
    assert CHURN[0] not in model.kernel()
    assert CHURN[0] in model.learned()


def test_model_has_the_claims_of_all_sources() -> None:
    model = Model()
    model.mqtt["c1"] = Claim(("10.64.3.1", "2001:db8:64:1::1"), "pod1")
    model.api["c1"] = Claim(("10.64.3.1",), "pod2")
    assert model.own()["10.64.3.1/32"] == {"pod1", "pod2"}
    assert model.own()["2001:db8:64:1::1/128"] == {"pod1"}
    assert model.own()["10.64.0.1/32"] == {"pod1"}


def test_service_of_a_drained_host_is_in_its_kernel_and_not_told() -> None:
    model = Model()
    model.served_by = {"10.64.0.1", "10.64.0.3"}
    assert model.service_hops() == ["10.64.0.1%pod1", "10.64.0.3%pod2"]
    assert "10.64.100.1/32" in model.told()
    model.is_drained = True
    assert "10.64.100.1/32" not in model.told()
    assert model.told() | {"10.64.100.1/32"} == model.local()


def test_model_has_of_the_vrf_what_leaves_announce_and_what_is_claimed_there() -> None:
    model = Model()
    tenant = model.tenant
    assert tenant.kernel(model.neighbors)["10.86.0.0/24"] == ["10.1.3.0%eth2.101", "10.1.4.0%eth3.101"]
    assert tenant.kernel([1, 2, 4])["2001:db8:86::/48"] == ["eth3.101"]
    assert model.own("blue") == {"10.64.0.1/32": {"vm1"}}
    assert model.own()["10.64.0.1/32"] == {"pod1"}, "the same address in the main table"
    tenant.elsewhere["10.81.0.3"] = (4, 10)
    assert tenant.kernel(model.neighbors)["10.81.0.3/32"] == ["10.1.4.0%eth3.101"]
    model.api["vm4"] = Claim(("10.81.0.4",), "vm1", "blue", "02:00:00:81:00:04")
    told = model.told(3) - model.told(1)
    assert {one for one in told if "/31" not in one and "10.1." not in one and "2001" not in one} == {
        "evpn 5 10.64.0.1/32",
        "evpn 5 10.81.0.4/32",
        "evpn 2 02:00:00:81:00:04 10.81.0.4/32",
    }
    assert "evpn 2 02:00:00:01:00:03 10.1.3.1/32" in told


def test_what_bfd_found_dead_is_seen_at_either_end() -> None:
    assert found_dead('{"neighbor": "leaf2", "why": "no packet", "event": "bfd.down"}') == 2
    by_leaf = "the neighbor sent cease/hard-reset (cease/bfd-down)"
    assert found_dead(f'{{"neighbor": "leaf1", "reason": "{by_leaf}", "event": "session.closed"}}') == 1
    assert found_dead('{"neighbor": "leaf1", "reason": "hold timer expired", "event": "session.closed"}') == 0
    assert found_dead('{"neighbor": "leaf1", "event": "bfd.up"}') == 0
