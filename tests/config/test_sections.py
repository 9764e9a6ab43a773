"""Which section of the configuration a session belongs to."""

from __future__ import annotations

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import ListenConfig
from bgpd.config.sections import range_of, section_of
from bgpd.model.prefix import parse_address
from bgpd.model.source import Source, SourceKind


def listen(prefix: str) -> ListenConfig:
    return msgspec.convert({"prefix": prefix, "asn": "external", "import": "all"}, ListenConfig)


def test_most_specific_range_wins() -> None:
    ranges = (listen("10.0.0.0/8"), listen("10.1.0.0/16"), listen("2001:db8::/32"))
    assert range_of(ranges, parse_address("10.1.2.3"), "") is ranges[1]
    assert range_of(ranges, parse_address("10.2.2.3"), "") is ranges[0]
    assert range_of(ranges, parse_address("2001:db8::1"), "") is ranges[2]
    assert range_of(ranges, parse_address("192.0.2.1"), "") is None
    assert range_of(ranges, parse_address("10.1.2.3"), "blue") is None


def test_a_session_has_the_section_of_its_name_else_the_range_of_its_address() -> None:
    leaf = {"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import": "all"}
    router = {"asn": 65203, "router_id": "10.255.1.1"}
    ranges = [{"prefix": "10.0.0.0/8", "asn": "external", "import": "all"}]
    config = msgspec.convert({"router": router, "neighbor": [leaf], "listen": ranges}, Config)

    def source(name: str, address: str) -> Source:
        return Source(name=name, kind=SourceKind.EBGP, asn=65201, address=parse_address(address))

    assert section_of(config.rib, source("leaf1", "10.0.1.2")) is config.neighbor[0]
    assert section_of(config.rib, source("10.0.0.0/8-10.0.9.9", "10.0.9.9")) is config.listen[0]
    assert section_of(config.rib, source("gone", "192.0.2.1")) is None
