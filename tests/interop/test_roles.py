"""BGP roles and Only to Customer (RFC 9234) with FRR and BIRD: what each says of the other, and what is refused."""

from __future__ import annotations

import pytest

from bgpd.model.iana import Family
from labs.daemons import Bird, Frr
from labs.process import wait_until
from tests.interop.conftest import Pair
from tests.interop.recording_speaker import RecordingSpeaker
from tests.interop.test_bird import bird_config
from tests.interop.test_frr import LEAF1, frr_config, frr_neighbor

pytestmark = pytest.mark.netns

NETWORK = "10.9.0.0/16"


def roles(speaker: RecordingSpeaker) -> tuple[str, str]:
    """This host's role and the neighbor's, as they are shown."""
    view = speaker.view("leaf1")
    assert view is not None
    return view.role, view.neighbor_role


def otc(speaker: RecordingSpeaker) -> int | None:
    """OTC of the leaf's route, as it came."""
    speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, NETWORK)
    attributes = speaker.recorder.attributes["leaf1", NETWORK]
    assert attributes is not None
    return attributes.only_to_customer


@pytest.mark.interop("FRR", "roles")
@pytest.mark.parametrize(
    ("theirs", "ours", "marks"),
    [
        ("provider", "customer", True),
        ("customer", "provider", False),
        ("peer", "peer", True),
        ("rs-server", "rs-client", True),
        ("rs-client", "rs", False),
    ],
)
def test_frr_has_the_opposite_role_and_marks_what_goes_down(pair: Pair, theirs: str, ours: str, marks: bool) -> None:
    config = {"neighbor": [{**LEAF1, "role": ours, "role_strict": True}]}
    text = frr_config(f"neighbor 10.0.1.1 local-role {theirs} strict-mode")
    with Frr(pair.leaf, text) as frr, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        assert roles(speaker) == (ours, theirs.replace("rs-server", "rs"))
        shown = frr_neighbor(frr)
        assert (shown["localRole"], shown["remoteRole"]) == (theirs, ours if ours != "rs" else "rs-server")
        assert otc(speaker) == (65201 if marks else None)


def test_frr_and_this_host_refuse_a_role_that_does_not_fit(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "role": "customer"}]}
    with (
        Frr(pair.leaf, frr_config("neighbor 10.0.1.1 local-role customer")),
        RecordingSpeaker(pair.host, config) as speaker,
    ):
        speaker.wait_error("leaf1", "role")


def test_strict_mode_of_frr_refuses_a_host_without_a_role(pair: Pair) -> None:
    text = frr_config("neighbor 10.0.1.1 local-role provider strict-mode")
    with Frr(pair.leaf, text), RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_error("leaf1", "open-message/role-mismatch")


def test_strict_mode_of_this_host_refuses_a_leaf_without_a_role(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "role": "customer", "role_strict": True}]}
    with Frr(pair.leaf, frr_config()), RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_error("leaf1", "the peer tells no role, role_strict is true")


@pytest.mark.interop("BIRD", "roles")
@pytest.mark.parametrize(("theirs", "ours"), [("provider", "customer"), ("peer", "peer"), ("rs_server", "rs-client")])
def test_bird_has_the_opposite_role_and_marks_what_goes_down(pair: Pair, theirs: str, ours: str) -> None:
    config = {"neighbor": [{**LEAF1, "role": ours, "role_strict": True}]}
    text = bird_config(f"local role {theirs};", "require roles yes;")
    with Bird(pair.leaf, text) as bird, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        assert roles(speaker) == (ours, theirs.removesuffix("_server"))
        assert f"Role: {theirs}" in bird.birdc("show protocols all host")
        assert otc(speaker) == 65201


def test_bird_refuses_a_role_that_does_not_fit(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "role": "peer"}]}
    with Bird(pair.leaf, bird_config("local role provider;")) as bird, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_error("leaf1", "role")
        wait_until(lambda: "ole mismatch" in bird.birdc("show protocols all host"), 10, "BIRD's reason")
