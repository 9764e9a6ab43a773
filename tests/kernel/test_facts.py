"""What a configuration asks of the host."""

from __future__ import annotations

import pytest

from bgpd.kernel import loopback
from bgpd.kernel.facts import facts_of_host
from bgpd.kernel.loopback import Loopback


def test_the_kernel_is_asked_once_for_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(within: object) -> Loopback:
        asked.append(within)
        return Loopback(ipv4=bytes((10, 255, 1, len(asked))))

    monkeypatch.setattr(loopback, "read_loopback", read)
    facts = facts_of_host()
    assert [facts.value_of("loopback4"), facts.loopback4()] == ["10.255.1.1"] * 2
    assert len(asked) == 1
    assert facts_of_host().loopback4() == "10.255.1.2", "the next one asks again"
