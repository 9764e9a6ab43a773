"""One protocol bgp of BIRD as a [[neighbor]] or [[listen]]."""

from __future__ import annotations

import ipaddress

import msgspec

from bgpd.migrate.bird_channels import FAMILIES, Channel, PolicyReader, channels_of
from bgpd.migrate.bird_filter import Definitions
from bgpd.migrate.bird_text import Statement, Token, number_of, split_statements
from bgpd.migrate.draft import Draft, Place, Secret, Table, neighbor_name

_HOLD_TIME_S = 240
_CONNECT_RETRY_S = 120
_SAME_HERE = (
    "local", "neighbor", "interface", "direct", "multihop", "source", "strict", "password", "hold", "keepalive",
    "connect", "passive", "bfd", "ttl", "graceful", "long", "allow", "description", "disabled", "ipv4", "ipv6", "debug",
    "startup", "error", "path", "default", "capabilities", "advertise", "enable", "interpret", "med", "deterministic",
    "check", "min", "free", "tx", "vrf", "authentication", "mrtdump", "import", "export", "dynamic", "setkey", "keys",
)  # fmt: skip


class Protocol(msgspec.Struct):
    """One protocol with what its templates say put before what it says itself."""

    kind: str
    name: str
    place: Place
    statements: list[Statement]

    def last(self, *words: str) -> Statement | None:
        """The last statement that begins with these words: it counts."""
        return next((one for one in reversed(self.statements) if one.starts(*words)), None)


def local_asn(session: Protocol) -> tuple[int, Place] | None:
    """The AS number of this host in a session, and where it stands."""
    found = None
    for statement in session.statements:
        if statement.starts("local") and (number := statement.number("as")) is not None:
            found = number, statement.place
    return found


def prefix_at(words: list[Token]) -> tuple[str, list[Token]]:
    """A prefix at the beginning of words, and the words behind it."""
    if len(words) < 3 or words[0].kind != "address" or words[1].text != "/":
        return "", words
    try:
        return str(ipaddress.ip_network(f"{words[0].text}/{words[2].text}", strict=False)), words[3:]
    except ValueError:
        return "", words


class Session:
    """One protocol bgp as a [[neighbor]] or [[listen]]."""

    def __init__(
        self,
        draft: Draft,
        protocol: Protocol,
        definitions: Definitions,
        own_asn: int,
        bfd: list[Protocol],
        *,
        installs: bool,
    ) -> None:
        self._draft = draft
        self._protocol = protocol
        self._definitions = definitions
        self._own_asn = own_asn
        self._bfd = bfd
        self._installs = installs

    def write(self) -> None:
        """The whole table."""
        protocol = self._protocol
        neighbors = [one for one in protocol.statements if one.starts("neighbor")]
        if not neighbors:
            self._draft.lose(protocol.place, f"protocol bgp {protocol.name} has no neighbor")
            return
        is_range = any(one.starts("neighbor", "range") for one in neighbors)
        disabled = protocol.last("disabled")
        is_off = disabled is not None and disabled.texts()[1:] not in (["off"], ["no"])
        table = self._draft.add("listen" if is_range else "neighbor", is_proposal=is_off)
        if is_off:
            table.remark(f"{protocol.place}: protocol bgp {protocol.name} is disabled; remove the # to use it")
        if (description := protocol.last("description")) is not None:
            table.remark(" ".join(description.texts()[1:]))
        for statement in neighbors:
            self._write_place(table, statement, is_range=is_range)
        if not is_range:
            table.put(
                "name", neighbor_name(self._draft, protocol.name), f"{protocol.place}: protocol bgp {protocol.name}"
            )
        is_internal = self._write_asn(table, neighbors)
        self._write_session(table)
        self._write_channels(table, is_internal=is_internal)
        self._tell_rest(table)

    def _write_place(self, table: Table, statement: Statement, *, is_range: bool) -> None:
        for index, token in enumerate(statement.words[1:], 1):
            if token.kind != "address":
                continue
            if is_range:
                table.put("prefix", prefix_at(statement.words[index:])[0], f"{statement.place}: {statement}")
            else:
                table.put("address", token.text, f"{statement.place}: {statement}")
                if statement.texts()[index + 1 : index + 2] == ["%"] and len(statement.words) > index + 2:
                    table.put("interface", statement.words[index + 2].text)
            break
        if (port := statement.number("port")) is not None and not is_range:
            table.put("port", port, f"{statement.place}: {statement}")
        interface = self._protocol.last("interface")
        if interface is not None and len(interface.words) == 2 and not is_range:
            table.put("interface", interface.words[1].text, f"{interface.place}: {interface}")

    def _write_asn(self, table: Table, neighbors: list[Statement]) -> bool:
        """The AS numbers; whether the session is internal."""
        for statement in neighbors:
            if (number := statement.number("as")) is not None:
                table.put("asn", number, f"{statement.place}: {statement}")
            for word in ("internal", "external"):
                if word in statement.texts():
                    table.put("asn", word, f"{statement.place}: {statement}")
        own = local_asn(self._protocol)
        if own is None:
            self._draft.lose(
                self._protocol.place, f"protocol bgp {self._protocol.name} does not say its own AS number", at=table
            )
        elif own[0] != self._own_asn:
            table.put("local_asn", own[0], f"{own[1]}: local as {own[0]}")
        asn = table.values.get("asn")
        return asn == "internal" or asn == (own[0] if own else self._own_asn)

    def _write_session(self, table: Table) -> None:
        protocol = self._protocol
        for key, words, default in (
            ("hold_time_s", ("hold", "time"), _HOLD_TIME_S),
            ("connect_retry_s", ("connect", "retry", "time"), _CONNECT_RETRY_S),
        ):
            statement = protocol.last(*words)
            number = statement.number(*words) if statement is not None else None
            table.put(
                key,
                default if number is None else number,
                f"{statement.place}: {statement}" if statement else "the default of BIRD",
            )
        for statement in protocol.statements:
            found = [token for token in statement.words if token.kind == "address"]
            is_source = statement.starts("source", "address") or statement.starts("local")
            if is_source and found and table.section == "neighbor":
                table.put("source_address", found[0].text, f"{statement.place}: {statement}")
        if (statement := protocol.last("password")) is not None and len(statement.words) > 1:
            self._draft.secrets.append(Secret(table, protocol.name, statement.words[1].text, statement.place))
        if _is_on(statement := protocol.last("passive")) and statement is not None and table.section == "neighbor":
            table.put("passive", True, f"{statement.place}: {statement}")
        if _is_on(statement := protocol.last("ttl", "security")) and statement is not None:
            table.put("ttl_security", True, f"{statement.place}: {statement}")
        if (statement := protocol.last("local", "role")) is not None and len(statement.words) > 2:
            role = statement.texts()[2].removesuffix("_server").replace("_", "-")
            table.put("role", role, f"{statement.place}: {statement}")
            if _is_on(protocol.last("require", "roles")):
                table.put("role_strict", True)
        if (statement := protocol.last("allow", "local", "as")) is not None:
            table.put("allow_own_as", min(statement.number("as") or 1, 10), f"{statement.place}: {statement}")
        if (statement := protocol.last("vrf")) is not None and len(statement.words) > 1:
            self._draft.lose(
                statement.place, f'"{statement}" is not converted', "add a [[vrf]], set vrf, remove the #", at=table
            )
            table.is_proposal = True
        if (statement := protocol.last("authentication")) is not None and "none" not in statement.texts():
            self._draft.lose(statement.place, f'"{statement}" is not converted', "see tcp_ao", at=table)
            for key in ("import", "export"):
                table.put(key, "none")
        self._write_bfd(table)
        self._write_graceful_restart(table)

    def _write_bfd(self, table: Table) -> None:
        statement = self._protocol.last("bfd")
        if statement is None or statement.texts()[1:2] in (["off"], ["no"]):
            return
        blocks = [inner.block for one in self._bfd for inner in one.statements if inner.block is not None]
        found: dict[str, int] = {}
        for block in (*blocks[:1], *([statement.block] if statement.block else [])):
            inside = split_statements(block)
            times = [_milliseconds(one) for one in inside if one.texts()[:1] in (["interval"], ["min"])]
            counts = [one.number("multiplier") for one in inside if one.starts("multiplier")]
            found |= {"interval_ms": max(times)} if times else {}
            found |= {"multiplier": counts[-1]} if counts and counts[-1] is not None else {}
        table.put("bfd", dict(found), f"{statement.place}: {statement}")

    def _write_graceful_restart(self, table: Table) -> None:
        statement = self._protocol.last("graceful", "restart")
        said = [
            one.texts()[2] for one in self._protocol.statements if one.starts("graceful", "restart") and one.texts()[2:]
        ]
        word = next(
            (one for one in reversed(said) if one != "time"), "on" if statement and len(statement.words) == 2 else ""
        )
        found: dict[str, int | str] = {
            "mode": {"on": "both", "yes": "both", "off": "off", "no": "off"}.get(word, "helper")
        }
        time = self._protocol.last("graceful", "restart", "time")
        if time is not None and (number := time.number("time")) is not None:
            found["restart_time_s"] = number
        stale = self._protocol.last("long", "lived", "stale", "time")
        if stale is not None and (number := stale.number("time")) is not None:
            found["long_lived_s"] = number
        table.put(
            "graceful_restart", dict(found), f"{statement.place}: {statement}" if statement else "the default of BIRD"
        )

    def _write_channels(self, table: Table, *, is_internal: bool) -> None:
        channels = channels_of(self._protocol.statements)
        unicast = {kind: channel for kind, channel in channels.items() if kind in FAMILIES}
        for kind, channel in channels.items():
            if kind not in FAMILIES:
                self._draft.lose(channel.place, f"channel {kind} is not converted", at=table)
        if not unicast:
            where = [one for one in self._protocol.statements if one.texts()[:1] in (["import"], ["export"])]
            unicast = {"ipv4": Channel("ipv4", self._protocol.place, where)}
            what = f"protocol bgp {self._protocol.name} has no channel ipv4 or ipv6"
            self._draft.lose(self._protocol.place, what, "ipv4-unicast is written", at=table)
        families = [FAMILIES[kind] for kind in FAMILIES if kind in unicast]
        if families != ["ipv4-unicast", "ipv6-unicast"]:
            table.put("families", list(families))
        is_closed_already = table.values.get("import") == "none"
        reader = PolicyReader(self._draft, self._definitions, self._own_asn)
        reader.write(table, self._protocol.name, unicast, is_internal=is_internal)
        if is_closed_already:
            table.put("import", "none", "until there is authentication")
            table.put("export", "none", "until there is authentication")
        if not self._installs and table.values.get("import") != "none":
            wanted = table.values["import"]
            what = "BIRD has no kernel protocol that takes routes: it installs nothing"
            right = f'import = "{wanted}" would install them'
            self._draft.lose(self._protocol.place, what, right, at=table)
            table.put("import", "none", what)

    def _tell_rest(self, table: Table) -> None:
        for statement in self._protocol.statements:
            is_known = statement.words and statement.words[0].text in _SAME_HERE
            if statement.words and not is_known and not statement.starts("require", "roles"):
                self._draft.lose(statement.place, f'"{statement}" is not converted', at=table)


def _is_on(statement: Statement | None) -> bool:
    return statement is not None and statement.texts()[-1] not in ("off", "no")


def _milliseconds(statement: Statement) -> int:
    """The time of "interval 300 ms", "min rx interval 50 ms"."""
    for index, token in enumerate(statement.words):
        if token.kind == "number":
            unit = statement.texts()[index + 1 : index + 2]
            factor = {"ms": 1000, "us": 1}.get(unit[0] if unit else "", 1_000_000)
            return number_of(token) * factor // 1000
    return 0
