"""[policy.NAME] and [[aggregate]] of the configuration: what is let in, what is announced."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bgpd.config.schema_values import Strict

IMPORT_POLICIES = ("none", "default-only", "all")
EXPORT_POLICIES = ("local", *IMPORT_POLICIES)
"""The names of `import` and `export` that are no [policy.NAME]."""


class MatchConfig(Strict, frozen=True, kw_only=True):
    """policy rule `match`: all given conditions must hold; within one list any element may."""

    prefix: Annotated[tuple[str, ...], Meta(description='"10.0.0.0/8", with optional " ge N" and " le N".')] = ()
    as_path: Annotated[
        tuple[str, ...], Meta(description="An ASN that must appear, or a regular expression (RE2) over the AS path.")
    ] = ()
    community: Annotated[tuple[str, ...], Meta(description='"65000:1", or a well-known name ("no-export").')] = ()
    extended_community: Annotated[
        tuple[str, ...], Meta(description='"rt:65000:1", "soo:10.0.0.1:7", "bandwidth:65000:125000000", hex.')
    ] = ()
    large_community: Annotated[tuple[str, ...], Meta(description='"65000:1:2" (RFC 8092).')] = ()
    next_hop: Annotated[tuple[str, ...], Meta(description="Addresses or prefixes.")] = ()
    family: Annotated[tuple[str, ...], Meta(description="Family names.")] = ()
    neighbor: Annotated[tuple[str, ...], Meta(description="Neighbor names.")] = ()


class SetConfig(Strict, frozen=True, kw_only=True):
    """policy rule `set`: changes made to a route that the rule matched."""

    local_pref: Annotated[
        Annotated[int, Meta(ge=0, le=4_294_967_295)] | None,
        Meta(description="LOCAL_PREF: the higher one is preferred, by this host and its internal neighbors."),
    ] = None
    med: Annotated[
        Annotated[int, Meta(ge=0, le=4_294_967_295)] | None,
        Meta(description="MULTI_EXIT_DISC: the lower one is preferred, among routes of one neighboring AS."),
    ] = None
    add_community: Annotated[tuple[str, ...], Meta(description="Communities that the route gets beside its own.")] = ()
    remove_community: Annotated[tuple[str, ...], Meta(description="Communities that the route loses.")] = ()
    add_extended_community: Annotated[
        tuple[str, ...], Meta(description="Extended communities that the route gets beside its own.")
    ] = ()
    remove_extended_community: Annotated[
        tuple[str, ...], Meta(description="Extended communities that the route loses.")
    ] = ()
    add_large_community: Annotated[
        tuple[str, ...], Meta(description="Large communities (RFC 8092) that the route gets beside its own.")
    ] = ()
    remove_large_community: Annotated[tuple[str, ...], Meta(description="Large communities that the route loses.")] = ()
    prepend: Annotated[int, Meta(ge=0, le=16, description="Our own AS, this many times more.")] = 0


class RuleConfig(Strict, frozen=True, kw_only=True):
    """policy rule: what it is for, and what becomes of the route."""

    match: MatchConfig = MatchConfig()
    set: SetConfig = SetConfig()
    action: Annotated[str, Meta(description='"accept", "reject" or "next" (apply `set`, go on).')] = "accept"


class PolicyConfig(Strict, frozen=True, kw_only=True):
    """[policy.NAME]: rules in order; a route that none matches is rejected."""

    rules: tuple[RuleConfig, ...] = ()


class AggregateConfig(Strict, frozen=True, kw_only=True):
    """[[aggregate]]: a prefix announced for this host's own routes inside it."""

    prefix: Annotated[str, Meta(description="The aggregate, or with auto the pool that covers are made in.")]
    summary_only: Annotated[
        bool, Meta(description="Do not announce what is inside; workloads marked as exceptions always are.")
    ] = False
    blackhole: Annotated[
        bool, Meta(description="A blackhole route under it: unused addresses do not loop. Never for one address.")
    ] = False
    auto: Annotated[
        str, Meta(pattern="^(exact)?$", description='"exact": the fewest prefixes that cover just what is announced.')
    ] = ""
    vrf: Annotated[str, Meta(description='VRF of the aggregate; "" is the main table.')] = ""
