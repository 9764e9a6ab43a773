"""What each NOTIFICATION means for a person, and what to do: the registry's codes, as bgpd names them."""

from __future__ import annotations

_DEFECT = "A defect of one side: `bgpd show received --neighbor NAME`, `bgpd decode`, and the log of the other side."
_WIRE = "What was read is no BGP: another program on the port, or a defect of the other side."

NOTIFICATIONS = {
    (1, 1): ("A message's marker is not all ones.", _WIRE),
    (1, 2): ("A message has a length that its type cannot have; the data have it.", _WIRE),
    (1, 3): ("There is no such type of message; the data have it.", _WIRE),
    (2, 0): ("An OPEN is malformed.", _DEFECT),
    (2, 1): (
        "The other side speaks another version of BGP than 4.",
        "Nothing that is in use does: look at what is connected.",
    ),
    (2, 2): (
        "The AS number is not the one that is configured.",
        "`asn` of the `[[neighbor]]` here, or the leaf's `remote-as`.",
    ),
    (2, 3): (
        "The router ID is 0, or the receiver's own.",
        "Each host and leaf needs one of its own: `router_id`; `bgpd status` warns of a twin.",
    ),
    (2, 4): ("An optional parameter of the OPEN is not known.", "The other side is very old: turn its extensions off."),
    (2, 6): (
        "The hold time is 1 or 2 s, or one that the other side does not take.",
        "`hold_time_s` here, the timers there.",
    ),
    (2, 7): (
        "A capability that one side insists on is missing; the data name it.",
        "`families` of both sides, or turn off what insists on it.",
    ),
    (2, 11): (
        "The roles of both sides do not go together (RFC 9234).",
        "The role of this session at the leaf, and here, if one is configured.",
    ),
    (3, 1): ("The attributes of an UPDATE cannot be taken apart.", _DEFECT),
    (3, 2): ("An attribute claims to be well-known and is not known.", _DEFECT),
    (3, 3): ("An UPDATE lacks an attribute that routes must have; the data name it.", _DEFECT),
    (3, 4): ("The flags of an attribute are wrong.", _DEFECT),
    (3, 5): ("An attribute has a length that it cannot have.", _DEFECT),
    (3, 6): ("ORIGIN is none of the three values.", _DEFECT),
    (3, 8): ("The next hop is no address that a router may have.", _DEFECT),
    (3, 9): ("An optional attribute is malformed.", _DEFECT),
    (3, 10): ("A prefix is malformed.", _DEFECT),
    (3, 11): (
        "The AS path is malformed, or does not begin with the sender's AS.",
        "A route server: let it send its own AS.",
    ),
    (4, 0): (
        "Nothing was heard for the hold time.",
        "The link, the load of the other side, a firewall. BFD says it within a second.",
    ),
    (5, 0): ("A message that does not fit the state of the session.", _DEFECT),
    (5, 1): ("... while OPEN was waited for.", _DEFECT),
    (5, 2): ("... while KEEPALIVE was waited for.", _DEFECT),
    (5, 3): ("... in an established session: a second OPEN, say.", _DEFECT),
    (6, 0): ("The session ends, and why is not said.", "The log of the side that sent it."),
    (6, 1): (
        "The neighbor announced more prefixes than `max_prefixes`; the data have family and limit.",
        "Its export, or the limit. bgpd tries again after `max_prefixes_restart_after_s`.",
    ),
    (6, 2): ("An administrator has stopped it; the text says why (RFC 9003).", "Nothing: wait, or ask."),
    (6, 3): ("The neighbor is no longer configured there.", "Configure it, or remove it here."),
    (6, 4): ("An administrator begins the session anew.", "Nothing: it comes back at once."),
    (6, 5): (
        "The connection is not wanted.",
        "The address is in no `[[neighbor]]` or `[[listen]]` of the other side, or its limit of neighbors is reached.",
    ),
    (6, 6): (
        "The configuration has changed.",
        "Nothing: it comes back at once. `bgpd plan` tells before what resets a session.",
    ),
    (6, 7): (
        "Both sides connected at the same time; one of the two connections goes (RFC 4271 section 6.8).",
        "Nothing.",
    ),
    (6, 8): (
        "A side has no memory or no room left for it.",
        "Its memory; here `bgpd status`, `max_prefixes`, `max_attribute_bytes`.",
    ),
    (6, 9): (
        "The session ends for good in spite of graceful restart; what it carries is the reason (RFC 8538).",
        "As for that reason, in brackets behind it.",
    ),
    (6, 10): (
        "BFD says that the path is down (RFC 9384).",
        "The link and the leaf: `bgpd show bfd`, [BFD](../bfd.md).",
    ),
    (7, 0): ("A ROUTE-REFRESH is malformed (RFC 7313).", _DEFECT),
}
"""By code and subcode: what has happened, and what to do."""
