"""What asn = "auto" and router_id = "auto" stand for on a host, and what they were made from."""

from __future__ import annotations

import enum

import msgspec


class Origin(enum.StrEnum):
    """What a value was made from."""

    LOOPBACK = "loopback"
    MACHINE_ID = "machine-id"
    HOSTNAME = "hostname"


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """One value that was chosen. `origin`: what it was made from; `of`: what that was then, of a machine ID a hash.

    `asn_range` is what an AS number was chosen from; "" of a router ID.
    """

    value: str
    origin: Origin
    of: str
    asn_range: str = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What "auto" stands for; null of what is configured."""

    asn: Chosen | None = None
    router_id: Chosen | None = None

    def or_else(self, other: Identity) -> Identity:
        """With what `other` has of what this one lacks."""
        return Identity(asn=self.asn or other.asn, router_id=self.router_id or other.router_id)
