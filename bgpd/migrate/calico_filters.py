"""BGPFilter, IPPool and prefixAdvertisements of Calico as policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from bgpd.migrate.draft import Draft, Place, Table
from bgpd.migrate.filters import (
    ACCEPT,
    ALWAYS,
    LOCAL,
    NEVER,
    REJECT,
    AllOf,
    Branch,
    Change,
    Condition,
    Inexpressible,
    Match,
    Not,
    Statement,
    compile_rules,
    named_policy,
    prefix_range,
)
from bgpd.migrate.kubernetes import KubernetesObject
from bgpd.migrate.yaml_documents import Mapping
from bgpd.model.policy_syntax import parse_community, parse_large_community

_RULE_KEYS = {"cidr", "matchOperator", "prefixLength", "source", "interface", "peerType", "action"}


def import_policy(
    draft: Draft, table: Table, filters: list[KubernetesObject] | None, *, is_ipv6: bool, is_internal: bool
) -> None:
    """`import`: the rules of the peer's filters, then all, as Calico does. Without a filter that is named: nothing."""
    if filters is None:
        table.put("import", "none", "a BGPFilter is missing")
        return
    if not filters:
        table.put("import", "all", "Calico accepts all without a BGPFilter")
        return
    key = "importV6" if is_ipv6 else "importV4"
    _write(draft, table, "import", filters, lambda: (*_rules(filters, key, is_internal), ACCEPT))


def export_policy(
    draft: Draft,
    table: Table,
    filters: list[KubernetesObject] | None,
    pools: Sequence[KubernetesObject],
    settings: Mapping,
    *,
    is_ipv6: bool,
    is_internal: bool,
) -> None:
    """`export`: this host's own routes that are inside a pool, or that a filter accepts."""
    if filters is None:
        table.put("export", "none", "a BGPFilter is missing")
        return
    prefixes = [text for pool in pools for text in _pool_prefixes(pool, is_ipv6)]
    if not pools:
        draft.lose(
            table_place(table, settings), "the files have no IPPool: all pods of this node are announced", at=table
        )
    key = "exportV6" if is_ipv6 else "exportV4"

    def statements() -> tuple[Statement, ...]:
        inside = (Branch(Match("prefix", tuple(prefixes)), (ACCEPT,)), REJECT) if pools else (ACCEPT,)
        own = (*_advertised(settings, is_ipv6), *_rules(filters or [], key, is_internal), *inside)
        return (Branch(Match(LOCAL, (LOCAL,)), own), REJECT)

    _write(draft, table, "export", [*filters, *pools], statements)


def table_place(table: Table, settings: Mapping) -> Place:
    """Where to say that something is missing."""
    return settings.place


def _write(draft: Draft, table: Table, key: str, sources: Sequence[KubernetesObject], statements: object) -> None:
    place = sources[0].place if sources else Place("")
    assert callable(statements)
    try:
        rules = compile_rules(statements(), default=REJECT)
    except Inexpressible as error:
        where = Place(place.file, error.line) if error.line else place
        names = ", ".join(one.name for one in sources)
        draft.lose(
            where, f"{key} ({names}) cannot be converted: {error}", f'{key} is "none" until there is one', at=table
        )
        table.put(key, "none", "not converted")
        return
    comment = f"{place}: {', '.join(f'{one.kind} {one.name}' for one in sources)}" if sources else ""
    table.put(
        key, named_policy(rules, exporting=key == "export") or draft.policy(f"calico-{key}", rules, comment), comment
    )


def _pool_prefixes(pool: KubernetesObject, is_ipv6: bool) -> list[str]:
    """What a pool lets be announced: all inside it."""
    if pool.spec.flag("disabled") or pool.spec.flag("disableBGPExport"):
        return []
    try:
        network = ipaddress.ip_network(pool.spec.text("cidr"), strict=False)
    except ValueError:
        return []
    return (
        list(prefix_range(network, network.prefixlen, network.max_prefixlen))
        if (network.version == 6) == is_ipv6
        else []
    )


def _advertised(settings: Mapping, is_ipv6: bool) -> list[Statement]:
    """Communities by prefixAdvertisements."""
    named = {one.text("name"): one.text("value") for one in settings.mappings("communities")}
    made: list[Statement] = []
    for one in settings.mappings("prefixAdvertisements"):
        network = _network(one)
        changes = [_community(named.get(text, text), one) for text in one.texts("communities")]
        if (network.version == 6) == is_ipv6:
            inside = prefix_range(network, network.prefixlen, network.max_prefixlen)
            made.append(Branch(Match("prefix", inside), tuple(changes)))
    return made


def _community(text: str, one: Mapping) -> Change:
    is_large = text.count(":") == 2
    try:
        (parse_large_community if is_large else parse_community)(text)
    except ValueError as error:
        raise Inexpressible(str(error), one.place.line) from None
    return Change("add_large_community" if is_large else "add_community", text)


def _rules(filters: Sequence[KubernetesObject], key: str, is_internal: bool) -> list[Statement]:
    """The rules of filters, in order. Raises: Inexpressible."""
    return [_rule(rule, is_internal) for one in filters for rule in one.spec.mappings(key)]


def _rule(rule: Mapping, is_internal: bool) -> Branch:
    line = rule.place.line
    for key in rule:
        if key not in _RULE_KEYS:
            raise Inexpressible(f'"{key}" of a rule has no counterpart', rule.lines.get(key, line))
    parts: list[Condition] = []
    if rule.text("interface"):
        raise Inexpressible('"interface" of a rule has no counterpart', rule.lines.get("interface", line))
    if rule.text("cidr"):
        parts.append(_cidr(rule))
    elif rule.get("prefixLength") is not None:
        raise Inexpressible('"prefixLength" without "cidr"', line)
    if source := rule.text("source"):
        if source != "RemotePeers":
            raise Inexpressible(f'the source "{source}" has no counterpart', line)
        parts.append(Not(Match(LOCAL, (LOCAL,))))
    if kind := rule.text("peerType"):
        parts.append(ALWAYS if kind.lower() == ("ibgp" if is_internal else "ebgp") else NEVER)
    action = {"accept": ACCEPT, "reject": REJECT}.get(rule.text("action").lower())
    if action is None:
        raise Inexpressible(f'the action "{rule.text("action")}" is unknown', line)
    return Branch(AllOf(tuple(parts)), (action,))


def _cidr(rule: Mapping) -> Condition:
    network = _network(rule)
    operator = rule.text("matchOperator") or "Equal"
    lengths = rule.mapping("prefixLength")
    least, most = lengths.number("min"), lengths.number("max")
    within = prefix_range(
        network,
        max(network.prefixlen, network.prefixlen if least is None else least),
        network.max_prefixlen if most is None else most,
    )
    match operator:
        case "Equal" | "NotEqual" if least is None and most is None:
            exact = Match("prefix", (str(network),))
            return exact if operator == "Equal" else Not(exact)
        case "In":
            return Match("prefix", within)
        case "NotIn" if least is None and most is None:
            return Not(Match("prefix", within))
    raise Inexpressible(f'the operator "{operator}" with these lengths has no counterpart', rule.place.line)


def _network(one: Mapping) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(one.text("cidr"), strict=False)
    except ValueError:
        raise Inexpressible(f'"{one.text("cidr")}" is no prefix', one.lines.get("cidr", one.place.line)) from None
