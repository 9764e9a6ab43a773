"""What [[vrf]] leaves to be worked out: automatic route distinguishers and route targets, as the bytes of the wire."""

from __future__ import annotations

import ipaddress

from bgpd.config import RouterConfig, VrfConfig
from bgpd.model.route_target import (
    automatic_route_distinguisher,
    automatic_route_target,
    parse_route_distinguisher,
    parse_route_target,
)

AUTOMATIC = "auto"


def vrf_distinguisher(router: RouterConfig, vrf: VrfConfig) -> bytes:
    """The 8 bytes of a VRF's route distinguisher; "auto" is type 1, router-id:table (RFC 7432 section 7.9).

    Raises: ValueError: it does not parse, or the table does not fit 16 bits. AddressValueError: a bad router_id.
    """
    if vrf.rd == AUTOMATIC:
        return automatic_route_distinguisher(ipaddress.IPv4Address(router.router_id).packed, vrf.table)
    return parse_route_distinguisher(vrf.rd)


def vrf_target(router: RouterConfig, vrf: VrfConfig, text: str) -> bytes:
    """The 8 bytes of one of a VRF's route targets; "auto" is "asn:vni".

    Raises: ValueError: it does not parse, or cannot be made automatically.
    """
    return automatic_route_target(router.asn, vrf.vni) if text == AUTOMATIC else parse_route_target(text)


def vrf_targets(router: RouterConfig, vrf: VrfConfig, texts: tuple[str, ...]) -> tuple[bytes, ...]:
    """Route targets of `import_rt` or `export_rt`, in order, each once.

    Raises: ValueError: see `vrf_target`.
    """
    return tuple(dict.fromkeys(vrf_target(router, vrf, text) for text in texts))
