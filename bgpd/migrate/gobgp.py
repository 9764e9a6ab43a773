"""`bgpd import gobgp`: gobgpd's configuration in TOML, YAML or JSON: global, neighbors, groups, policies."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from bgpd.config.toml_errors import text_error
from bgpd.config.toml_lines import KeyPath, key_lines, line_of
from bgpd.migrate.draft import AUTOMATIC, Draft, ImportFailed, Place, Secret, Table, neighbor_name, put_max_prefixes
from bgpd.migrate.filters import Inexpressible, compile_rules, named_policy
from bgpd.migrate.gobgp_policy import GobgpPolicies
from bgpd.migrate.reading import display_name, read_text
from bgpd.migrate.yaml_documents import DEEPEST, Mapping, read_documents

_FAMILIES = {
    "ipv4-unicast": "ipv4-unicast",
    "ipv6-unicast": "ipv6-unicast",
    "l2vpn-evpn": "l2vpn-evpn",
    "rtc": "route-target",
}
_GLOBAL = {"config", "apply-policy", "afi-safis", "use-multiple-paths", "route-selection-options"}
_TOP = {"global", "neighbors", "peer-groups", "dynamic-neighbors", "defined-sets", "policy-definitions", "zebra"}
_NEIGHBOR = {
    "config", "transport", "timers", "ebgp-multihop", "ttl-security", "afi-safis", "graceful-restart", "apply-policy",
    "as-path-options", "error-handling", "logging-options", "use-multiple-paths", "state",
}  # fmt: skip
_HOLD_TIME_S = 90
_CONNECT_RETRY_S = 120


def import_gobgp(files: Sequence[str]) -> Draft:
    """The draft that gobgpd's configuration comes to; sections of several files are put together.

    Raises: ImportFailed: a file cannot be read, or there is no [global.config].
    """
    documents = [read_gobgp(file) for file in files]
    names = ", ".join(map(display_name, files))
    base = Mapping(Place(names))
    for document in documents:
        for key, value in document.items():
            before = base.get(key)
            base[key] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
            base.lines[key] = document.lines.get(key, 0)
    config = base.mapping("global").mapping("config")
    asn = config.number("as")
    if asn is None:
        raise ImportFailed(Place(names), "has no AS number in global.config", "give the whole configuration of gobgpd")
    draft = Draft(f"Converted from the GoBGP configuration {names}: read it before you use it.")
    _write_global(draft, base.mapping("global"), asn)
    policies = GobgpPolicies(base, asn, draft)
    groups = {one.mapping("config").text("peer-group-name"): one for one in base.mappings("peer-groups")}
    for neighbor in base.mappings("neighbors"):
        _Session(draft, neighbor, groups, asn).write_neighbor()
    for dynamic in base.mappings("dynamic-neighbors"):
        _Session(draft, dynamic, groups, asn).write_range()
    _write_policies(draft, policies, base.mapping("global").mapping("apply-policy").mapping("config"))
    zebra = base.mapping("zebra").mapping("config")
    if not zebra.flag("enabled"):
        what = "without zebra gobgpd installs no routes; bgpd installs what it accepts"
        draft.lose(Place(names), what, 'import = "none" keeps routes out of the kernel')
        for table in (*draft.of("neighbor"), *draft.of("listen")):
            _close(table, "import", "gobgpd had no zebra: it installed nothing")
    for key in zebra:
        if key.startswith("redistribute"):
            right = "name what is to be announced: [[workload.static]], [workload.kernel]"
            draft.lose(zebra.at(key), f'"{key}" of zebra is not converted', right)
    draft.lose(Place(names), "paths that programs add by gobgpd's API are not in its configuration",
               "[workload.api] takes workloads from programs")  # fmt: skip
    for key in base:
        if key not in _TOP:
            draft.lose(base.at(key), f'"{key}" is not converted')
    return draft


def _close(table: Table, key: str, why: str) -> None:
    wanted = table.values.get(key)
    if wanted not in (None, "none"):
        table.put(key, "none", f'{why}; it would be "{wanted}"')


def read_gobgp(file: str) -> Mapping:
    """One file as a mapping, whichever of the three forms it has. Raises: ImportFailed."""
    text, name = read_text(file), display_name(file)
    if file.endswith((".yaml", ".yml", ".json")) or (not file.endswith((".toml", ".conf")) and _is_yaml(text)):
        documents = read_documents(text, name)
        if len(documents) != 1:
            raise ImportFailed(Place(name), f"has {len(documents)} documents", "gobgpd reads one")
        return documents[0]
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = text_error(error, text)
        raise ImportFailed(Place(name, found.line), found.what, found.hint) from None
    converted = _with_lines(data, key_lines(text), name, (), 0)
    assert isinstance(converted, Mapping)
    return converted


def _is_yaml(text: str) -> bool:
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return first.startswith("{") or (not first.startswith("[") and "=" not in first)


def _with_lines(value: object, lines: dict[KeyPath, int], name: str, path: KeyPath, depth: int) -> object:
    if depth > DEEPEST:
        raise ImportFailed(Place(name), f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        mapping = Mapping(Place(name, line_of(lines, path)))
        for key, inner in value.items():
            mapping[key] = _with_lines(inner, lines, name, (*path, key), depth + 1)
            mapping.lines[key] = line_of(lines, (*path, key))
        return mapping
    if isinstance(value, list):
        return [_with_lines(one, lines, name, (*path, index), depth + 1) for index, one in enumerate(value)]
    return value


def _write_global(draft: Draft, settings: Mapping, asn: int) -> None:
    table = draft.section("router")
    config = settings.mapping("config")
    table.put("asn", asn, config.at("as"))
    if router_id := config.text("router-id"):
        table.put("router_id", router_id, config.at("router-id"))
    else:
        table.put("router_id", AUTOMATIC, "no router-id in GoBGP's configuration")
    if config.number("port") not in (None, 179):
        draft.lose(config.at("port"), "another port to listen on than 179 is not converted")
    if config.get("local-address-list"):
        draft.lose(config.at("local-address-list"), "addresses to listen on are not converted", "bgpd listens on all")
    for key in settings:
        if key not in _GLOBAL:
            draft.lose(settings.at(key), f'"global.{key}" is not converted')


def _write_policies(draft: Draft, policies: GobgpPolicies, applied: Mapping) -> None:
    """GoBGP's policies are of all neighbors; which ones they concern, their statements say."""
    for key, word in (("import", "import"), ("export", "export")):
        names = applied.texts(f"{word}-policy-list")
        place = applied.at(f"{word}-policy-list")
        default = applied.text(f"default-{word}-policy") or "accept-route"
        for table in (*draft.of("neighbor"), *draft.of("listen")):
            if not names:
                open_to = "all" if key == "import" else "local"
                table.put(key, open_to if default == "accept-route" else "none", f"global.apply-policy: {default}")
                if default == "accept-route" and key == "export":
                    table.remark("gobgpd sends what it learned, too; here only what is this host's own")
                continue
            try:
                rules = compile_rules(policies.statements(names, table), default=policies.default(default))
            except Inexpressible as error:
                where = Place(place.file, error.line) if error.line else place
                what = f"{word} policies ({', '.join(names)}) cannot be converted: {error}"
                draft.lose(where, what, f'{key} is "none" until there is a policy', at=table)
                table.put(key, "none", "not converted")
                continue
            comment = f"{place}: {word}-policy-list = {', '.join(names)}"
            built_in = named_policy(rules, exporting=key == "export")
            built_in = "local" if built_in == "all" and key == "export" else built_in
            table.put(key, built_in or draft.policy("-".join(names), rules, comment), comment)


class _Session:
    """One neighbor or dynamic neighbor with its group."""

    def __init__(self, draft: Draft, settings: Mapping, groups: dict[str, Mapping], own_asn: int) -> None:
        self._draft = draft
        self._settings = settings
        self._own_asn = own_asn
        name = settings.mapping("config").text("peer-group")
        self._group = groups.get(name, Mapping(settings.place))
        if name and name not in groups:
            raise ImportFailed(settings.mapping("config").at("peer-group"), f'there is no peer group "{name}"')

    def _part(self, *path: str) -> Mapping:
        """The settings under a path: the neighbor's own where it has them, else the group's."""
        own, group = self._settings, self._group
        for key in path:
            own, group = own.mapping(key), group.mapping(key)
        joined = Mapping(own.place if own else group.place)
        for source in (group, own):
            joined.update(source)
            joined.lines.update(source.lines)
        return joined

    def write_neighbor(self) -> None:
        """A [[neighbor]]."""
        config = self._part("config")
        address, interface = config.text("neighbor-address"), config.text("neighbor-interface")
        if not address and not interface:
            self._draft.lose(self._settings.place, "a neighbor without an address and without an interface")
            return
        is_down = bool(config.flag("admin-down"))
        table = self._draft.add("neighbor", is_proposal=is_down)
        if description := config.text("description"):
            table.remark(description)
        if is_down:
            table.remark(f"{config.at('admin-down')}: the neighbor is down; remove the # to use it")
        table.put("name", neighbor_name(self._draft, address or interface), self._settings.place)
        bare, _, scope = address.partition("%")
        if address:
            table.put("address", bare)
        if scope or interface:
            table.put("interface", scope or interface)
        self._write_session(table, config)

    def write_range(self) -> None:
        """A [[listen]]."""
        config = self._settings.mapping("config")
        table = self._draft.add("listen")
        table.put("prefix", config.text("prefix"), config.at("prefix"))
        self._write_session(table, self._group.mapping("config"))

    def _write_session(self, table: Table, config: Mapping) -> None:
        asn = config.number("peer-as")
        if asn is None:
            asn_text = {"external": "external", "internal": "internal"}.get(config.text("peer-type"), "external")
            table.put("asn", asn_text, "without peer-as: any AS number but ours")
        else:
            table.put("asn", asn, config.at("peer-as"))
        local = config.number("local-as")
        if local is not None and local != self._own_asn:
            table.put("local_asn", local, config.at("local-as"))
        if "auth-password" in config and config.text("auth-password"):
            name = str(table.values.get("name") or f"listen-{len(self._draft.of('listen'))}")
            secret = Secret(table, name, config.text("auth-password"), config.at("auth-password"))
            self._draft.secrets.append(secret)
        if config.text("vrf"):
            self._draft.lose(config.at("vrf"), "a neighbor in a VRF", "add a [[vrf]], set vrf, remove the #", at=table)
            table.is_proposal = True
        if config.get("remove-private-as"):
            self._draft.lose(config.at("remove-private-as"), "remove-private-as is not converted", at=table)
        self._write_transport(table)
        self._write_families(table)
        self._write_graceful_restart(table)
        for key in dict.fromkeys((*self._group, *self._settings)):
            if key not in _NEIGHBOR:
                source = self._settings if key in self._settings else self._group
                self._draft.lose(source.at(key), f'"{key}" of a neighbor is not converted', at=table)
        if self._part("apply-policy", "config"):
            place = (self._settings if "apply-policy" in self._settings else self._group).at("apply-policy")
            self._draft.lose(place, "apply-policy of a neighbor counts for route server clients only", at=table)

    def _write_transport(self, table: Table) -> None:
        timers = self._part("timers", "config")
        for key, words, default in (
            ("hold_time_s", "hold-time", _HOLD_TIME_S),
            ("connect_retry_s", "connect-retry", _CONNECT_RETRY_S),
        ):
            seconds = timers.get(words)
            if seconds is None:
                table.put(key, default, "the default of GoBGP")
            else:
                number = int(seconds) if isinstance(seconds, float) else timers.number(words)
                table.put(key, number if number is not None else default, timers.at(words))
        transport = self._part("transport", "config")
        is_neighbor = table.section == "neighbor"
        if transport.flag("passive-mode") and is_neighbor:
            table.put("passive", True, transport.at("passive-mode"))
        if is_neighbor and (local := transport.text("local-address")) not in ("", "0.0.0.0", "::"):  # noqa: S104
            table.put("source_address", local, transport.at("local-address"))
        if is_neighbor and (port := transport.number("remote-port")) is not None:
            table.put("port", port, transport.at("remote-port"))
        if is_neighbor and (device := transport.text("bind-interface")):
            table.put("interface", device, transport.at("bind-interface"))
        security = self._part("ttl-security", "config")
        if security.flag("enabled"):
            table.put("ttl_security", True, security.at("enabled"))
            if security.number("ttl-min") not in (None, 255):
                self._draft.lose(security.at("ttl-min"), "ttl-min: here packets must have TTL 255", at=table)
        count = self._part("as-path-options", "config").number("allow-own-as")
        if count:
            table.put("allow_own_as", min(count, 10), self._part("as-path-options", "config").at("allow-own-as"))

    def _write_families(self, table: Table) -> None:
        named = self._settings.mappings("afi-safis") or self._group.mappings("afi-safis")
        families: list[str] = []
        for one in named:
            config = one.mapping("config")
            name = config.text("afi-safi-name")
            if name not in _FAMILIES:
                self._draft.lose(config.at("afi-safi-name"), f'family "{name}" is not spoken here', at=table)
                continue
            families.append(_FAMILIES[name])
            limit = one.mapping("prefix-limit").mapping("config")
            if (most := limit.number("max-prefixes")) is not None:
                place = limit.at("max-prefixes")
                put_max_prefixes(self._draft, table, most, place, f"max-prefixes of {name}")
            if (percent := limit.number("shutdown-threshold-pct")) is not None:
                table.put("max_prefixes_warn_percent", min(percent, 100), limit.at("shutdown-threshold-pct"))
        families = list(dict.fromkeys(families))
        if not named:
            address = table.text("address") or table.text("prefix")
            families = ["ipv6-unicast"] if ":" in address else ["ipv4-unicast"]
            if not address:
                families = ["ipv4-unicast", "ipv6-unicast"]
            table.put("families", list(families), "no afi-safis: GoBGP speaks that of the address")
        elif not families:
            self._draft.lose(self._settings.at("afi-safis"), "no family is left that is spoken here", at=table)
            table.is_proposal = True
        else:
            table.put("families", list(families))

    def _write_graceful_restart(self, table: Table) -> None:
        config = self._part("graceful-restart", "config")
        if not config.flag("enabled"):
            table.put("graceful_restart", {"mode": "off"}, "the default of GoBGP")
            return
        found: dict[str, str | int] = {"mode": "helper" if config.flag("helper-only") else "both"}
        if (seconds := config.number("restart-time")) is not None:
            found["restart_time_s"] = seconds
        table.put("graceful_restart", dict(found), config.at("enabled"))
        if config.flag("long-lived-enabled"):
            self._draft.lose(config.at("long-lived-enabled"), "long-lived times are of each family in GoBGP",
                             "set graceful_restart.long_lived_s", at=table)  # fmt: skip
