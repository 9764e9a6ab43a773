"""What workloads' addresses are announced with: their source in the RIB, and their attributes."""

from __future__ import annotations

import functools

from bgpd.model.attributes import Attributes
from bgpd.model.communities import encode_link_bandwidth
from bgpd.model.source import Source, SourceKind
from bgpd.model.workload import ClaimInfo

WORKLOAD_SOURCE = Source(name="workload", kind=SourceKind.WORKLOAD)


@functools.lru_cache(maxsize=1024)
def attributes_of(asn: int, info: ClaimInfo) -> Attributes:
    """Origin IGP, an empty AS path, the link bandwidth of a service address, and what a guest says."""
    return Attributes.of(
        med=info.med,
        only_to_customer=info.only_to_customer,
        extended_communities=(encode_link_bandwidth(asn, info.bandwidth),) if info.bandwidth else (),
        packed_communities=info.communities.standard,
        packed_large_communities=info.communities.large,
    )
