"""Messages that pyroute2 0.9.7 lacks, by its own classes: what bgpd writes is compared with what these encode."""

from __future__ import annotations

from pyroute2.netlink import nla, nlmsg

NLA_F_NESTED = 0x8000


class NexthopMessage(nlmsg):  # type: ignore[misc]
    """A nexthop object (linux/nexthop.h), which pyroute2 0.9.7 has not. `NHA_GROUP` is its packed nexthop_grp's."""

    prefix = "NHA_"
    fields = (("family", "B"), ("scope", "B"), ("protocol", "B"), ("resvd", "B"), ("flags", "I"))
    nla_map = (
        ("NHA_UNSPEC", "none"),
        ("NHA_ID", "uint32"),
        ("NHA_GROUP", "cdata"),
        ("NHA_GROUP_TYPE", "uint16"),
        ("NHA_BLACKHOLE", "flag"),
        ("NHA_OIF", "uint32"),
        ("NHA_GATEWAY", "ipaddr"),
        ("NHA_ENCAP_TYPE", "uint16"),
        ("NHA_ENCAP", "cdata"),
        ("NHA_GROUPS", "flag"),
        ("NHA_MASTER", "uint32"),
        ("NHA_FDB", "flag"),
        ("NHA_RES_GROUP", "resilient", NLA_F_NESTED),
    )

    class resilient(nla):  # type: ignore[misc]
        """What a resilient group is made of."""

        prefix = "NHA_RES_GROUP_"
        nla_map = (
            ("NHA_RES_GROUP_PAD", "none"),
            ("NHA_RES_GROUP_BUCKETS", "uint16"),
            ("NHA_RES_GROUP_IDLE_TIMER", "uint32"),
            ("NHA_RES_GROUP_UNBALANCED_TIMER", "uint32"),
            ("NHA_RES_GROUP_UNBALANCED_TIME", "uint64"),
        )
