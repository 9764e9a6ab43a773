"""JSON views of sessions: `bgpd show neighbors`, `bgpd show bfd`."""

from __future__ import annotations

import msgspec


class FamilyCounts(msgspec.Struct, kw_only=True):
    """Routes exchanged with a neighbor in one family: received, of them rejected by policy, and announced to it.

    `discarded` are prefixes that it announces beyond `max_prefixes` and that were not taken (`max_prefixes_action`).
    """

    received: int = 0
    rejected: int = 0
    announced: int = 0
    discarded: int = 0


class NeighborView(msgspec.Struct, kw_only=True):
    """`bgpd show neighbors`: one session. `state` is the RFC 4271 state name in lower case ("established").

    `martians` counts announced prefixes that were ignored as martians since the daemon's start (RFC 4271 section 6.3).
    `without_next_hop`: families of which nothing is announced, since this host has no address there as a next hop.

    `guest`: the [[workload.bgp]] that the session is of, "" for a neighbor.

    `capabilities` are those that the neighbor sent, `negotiated` those that both have and use; times and families are
    the negotiated ones.

    `flaps`: how many established sessions have ended since the daemon's start. `last_error` is why the last attempt or
    session ended, which stays there in a healthy session; a reason that says less, such as a refused connection, is
    followed by the one before it that came with a NOTIFICATION. `last_notification_sent` and `..._received` are words.

    `bfd` is the state of its BFD ("" if it has none; `bgpd show bfd` has more). `authentication`: "md5", "tcp-ao" or ""
    (none); `tcp_ao` is what the kernel has of an established session's keys.

    `graceful_restart` is what this host does: "both", "helper" or "off" (RFC 4724); `neighbor_graceful_restart` what
    the neighbor of the present session does: "both", "helper" (it restarts with loss) or "off"; "" without a session.
    `stale_families`: those of which routes of an ended session are kept while the neighbor restarts, how many
    (`stale_routes`), since when, and until when at most; `stale_stage` is what is waited for: "away" (its return),
    "back" (its End-of-RIB), or "long-lived" (either, RFC 9494).

    `expectation` is what becomes of `expected_hostname`: "met", "unmet" (another name was told), "not-told", or "" (any
    name will do). The neighbor tells `hostname` in its OPEN, LLDP tells `lldp_hostname` where lldpd runs.

    `role` is what this host is to the neighbor (RFC 9234), `neighbor_role` what the neighbor says that it is to this
    host: "customer", "provider", "peer", "rs", "rs-client", or "" (none).

    `refused_until`: it is held off until then, for the reason in `last_error`. `defects`: how often bgpd itself could
    not cope with what the neighbor sent, or with sending to it; `last_defect_messages` are the messages (hex, with
    headers) that were worked off then.
    """

    name: str
    address: str
    interface: str
    vrf: str = ""
    asn: int
    local_asn: int
    state: str
    since: float
    router_id: str = ""
    hostname: str = ""
    dynamic: bool = False
    guest: str = ""
    hold_time_s: int = 0
    keepalive_time_s: int = 0
    families: dict[str, FamilyCounts] = {}
    capabilities: list[str] = []
    negotiated: list[str] = []
    messages_received: int = 0
    messages_sent: int = 0
    established_count: int = 0
    flaps: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    last_notification_sent: str = ""
    last_notification_sent_at: float | None = None
    last_notification_received: str = ""
    last_notification_received_at: float | None = None
    end_of_rib: list[str] = []
    attribute_bytes: int = 0
    max_attribute_bytes: int = 0
    martians: int = 0
    refused_until: float | None = None
    defects: int = 0
    last_defect: str = ""
    last_defect_at: float | None = None
    last_defect_messages: str = ""
    without_next_hop: list[str] = []
    expected_hostname: str = ""
    expectation: str = ""
    lldp_hostname: str = ""
    bfd: str = ""
    authentication: str = ""
    tcp_ao: TcpAoView | None = None
    graceful_restart: str = "off"
    neighbor_graceful_restart: str = ""
    role: str = ""
    neighbor_role: str = ""
    stale_families: list[str] = []
    stale_routes: int = 0
    stale_since: float | None = None
    stale_until: float | None = None
    stale_stage: str = ""


class TcpAoView(msgspec.Struct, kw_only=True):
    """TCP-AO (RFC 5925) of an established session.

    `current` is the send ID of the key that segments are signed with, `next` the receive ID that the neighbor is asked
    to use, `keys` the send IDs of all that the connection understands. Segments are counted by the kernel: verified,
    with a wrong code, with a key that is not known, without a code.
    """

    current: int
    next: int
    keys: list[int] = []
    segments_good: int = 0
    segments_bad: int = 0
    segments_unknown_key: int = 0
    segments_unsigned: int = 0


class BfdView(msgspec.Struct, kw_only=True):
    """`bgpd show bfd`: BFD of one neighbor (RFC 5880). Counters are a few seconds old, states are not.

    `state`: "up", "init", "down", "admin-down", or "unknown" where there is no session (yet); `problem` says why, or
    why packets cannot be sent. `interval_ms` and `multiplier` are those configured, `transmit_interval_ms` and
    `detection_time_ms` what both sides came to, `remote_...` what the neighbor says: how often it sends at most, how
    often it takes packets, and of how many that are missed it concludes. `remote_independent`: its BFD goes on while
    its control plane restarts (C bit). `ups` and `downs` count how often it came Up and went Down from Up since the
    session began with this discriminator; `diagnostic` is why it last left a state, as each side sees it.
    """

    neighbor: str
    address: str = ""
    interface: str = ""
    local_address: str = ""
    state: str = "unknown"
    since: float | None = None
    problem: str = ""
    strict: bool = False
    interval_ms: int = 0
    multiplier: int = 0
    transmit_interval_ms: float = 0.0
    detection_time_ms: float = 0.0
    diagnostic: str = ""
    remote_state: str = ""
    remote_diagnostic: str = ""
    remote_transmit_interval_ms: float = 0.0
    remote_receive_interval_ms: float = 0.0
    remote_multiplier: int = 0
    remote_independent: bool = False
    discriminator: int = 0
    remote_discriminator: int = 0
    source_port: int = 0
    ups: int = 0
    downs: int = 0
    packets_sent: int = 0
    packets_received: int = 0
