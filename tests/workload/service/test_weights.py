"""How an address is spread over backends: one member for each address, with weights that the kernel takes."""

from __future__ import annotations

from bgpd.model.service import Backend, Service
from bgpd.workload.service.targets import Fault, Target, targets_of
from bgpd.workload.service.weights import HEAVIEST, members_of, strength_of


def of(*weights: int, same: bool = False) -> list[Target]:
    """Targets that work, with these weights; `same`: all of one address."""
    backends = tuple(
        Backend(id=f"b{number}", addresses=(f"10.64.1.{1 if same else number}",), weight=weight)
        for number, weight in enumerate(weights, 1)
    )
    found = list(targets_of("web", Service(addresses=("10.64.9.1",), backends=backends)))
    for target in found:
        target.interface, target.fault = "pod1", Fault.NONE
    return found


def weights(targets: list[Target]) -> list[int]:
    return [hop.weight for hop in members_of(targets)]


def test_weights_that_the_kernel_takes_are_as_they_were_said() -> None:
    assert weights(of(3, 6, HEAVIEST)) == [3, 6, HEAVIEST]


def test_too_heavy_members_are_lighter_in_proportion_and_none_is_left_out() -> None:
    assert weights(of(*[256] * 4, same=True)) == [256]
    targets = of(256, 256, 128, 1)
    targets[1].key = targets[0].key
    assert weights(targets) == [256, 64, 1]
    assert strength_of(targets) == 641


def test_nothing_is_spread_over_nothing() -> None:
    assert (members_of([]), strength_of([])) == ((), 0)
