"""`bgpd import bird`: the configuration of BIRD 2: protocols bgp, static, kernel, direct, device and bfd."""

from __future__ import annotations

from collections.abc import Sequence

from bgpd.migrate.addresses import SECTION, announce_addresses
from bgpd.migrate.bird_channels import PolicyReader, channels_of, is_closed
from bgpd.migrate.bird_filter import Definitions
from bgpd.migrate.bird_sessions import Protocol, Session, local_asn, prefix_at
from bgpd.migrate.bird_text import BirdText, Statement, Token, split_statements
from bgpd.migrate.draft import AUTOMATIC, Draft, ImportFailed, Place, Table
from bgpd.migrate.filters import ACCEPT, REJECT, Inexpressible, compile_rules, named_policy, of_learned
from bgpd.migrate.filters import Statement as FilterStatement
from bgpd.migrate.reading import display_name

_NO_EFFECT = (
    "log", "debug", "timeformat", "watchdog", "mrtdump", "threads", "function", "filter", "router", "hostname",
    "ipv4", "ipv6", "roa4", "roa6", "vpn4", "vpn6", "flow4", "flow6", "eval", "attribute", "cli", "template",
    "protocol", "graceful", "eth", "mpls", "evpn",
)  # fmt: skip


def import_bird(files: Sequence[str]) -> Draft:
    """The draft that one or several bird.conf come to.

    Raises: ImportFailed: a file cannot be read, or there is no protocol bgp.
    """
    text = BirdText()
    for file in files:
        text.read(file, display_name(file))
    names = ", ".join(map(display_name, files))
    protocols = _protocols(text.statements)
    sessions = [one for one in protocols if one.kind == "bgp"]
    if not sessions:
        raise ImportFailed(Place(names), "has no protocol bgp", "give the bird.conf that BIRD runs with")
    draft = Draft(f"Converted from the BIRD configuration {names}: read it before you use it.")
    definitions = _definitions(text.statements, protocols)
    own_asn = _write_router(draft, text.statements, sessions)
    kernels = [one for one in protocols if one.kind == "kernel"]
    installs = _write_kernel(draft, kernels, PolicyReader(draft, definitions, own_asn), definitions)
    bfd = [one for one in protocols if one.kind == "bfd"]
    for session in sessions:
        Session(draft, session, definitions, own_asn, bfd, installs=installs).write()
    for protocol in protocols:
        match protocol.kind:
            case "static":
                _write_static(draft, protocol)
            case "direct":
                _write_direct(draft, protocol)
            case "bgp" | "kernel" | "device" | "bfd":
                pass
            case _:
                draft.lose(protocol.place, f"protocol {protocol.kind} {protocol.name} is not converted")
    for statement in text.statements:
        if statement.words and statement.words[0].text not in _NO_EFFECT:
            draft.lose(statement.place, f'"{statement}" is not converted')
    return draft


def _definitions(statements: list[Statement], protocols: list[Protocol]) -> Definitions:
    found = Definitions()
    for statement in statements:
        texts = statement.texts()
        if statement.block is None or len(texts) < 2:
            continue
        if texts[0] == "filter" and len(texts) == 2:
            found.filters[texts[1]] = statement.block
        elif texts[0] == "function" and texts[2:4] == ["(", ")"]:
            found.functions[texts[1]] = statement.block
    found.local_protocols = {one.name for one in protocols if one.kind in ("static", "direct", "device", "kernel")}
    return found


def _protocols(statements: list[Statement]) -> list[Protocol]:
    templates: dict[str, list[Statement]] = {}
    found: list[Protocol] = []
    for statement in statements:
        texts = statement.texts()
        if texts[:1] not in (["protocol"], ["template"]) or statement.block is None or len(texts) < 2:
            continue
        own = split_statements(statement.block)
        base = texts[texts.index("from") + 1] if "from" in texts[:-1] else ""
        if base and base not in templates:
            raise ImportFailed(statement.place, f'there is no template "{base}"', "give the file that it is in")
        named = [text for text in texts[2:] if text not in ("from", base)] if base else texts[2:]
        name = named[0] if named else f"{texts[1]}{sum(one.kind == texts[1] for one in found) + 1}"
        everything = [*templates.get(base, []), *own]
        if texts[0] == "template":
            templates[name] = everything
        else:
            found.append(Protocol(texts[1], name, statement.place, everything))
        templates.setdefault(name, everything)
    return found


def _write_router(draft: Draft, statements: list[Statement], sessions: list[Protocol]) -> int:
    table = draft.section("router")
    numbers = [found for found in map(local_asn, sessions) if found is not None]
    if not numbers:
        raise ImportFailed(sessions[0].place, "no protocol bgp says its own AS number", "give all files: local as N")
    own_asn, place = max(numbers, key=lambda one: sum(other[0] == one[0] for other in numbers))
    table.put("asn", own_asn, f"{place}: local as {own_asn}")
    for statement in statements:
        if statement.starts("router", "id") and len(statement.words) == 3:
            token = statement.words[2]
            table.put("router_id", token.text, f"{statement.place}: {statement}")
        elif statement.starts("hostname") and len(statement.words) == 2:
            table.put("hostname", statement.words[1].text, f"{statement.place}: {statement}")
    if "router_id" not in table.values:
        table.put("router_id", AUTOMATIC, "no router id in BIRD: it takes an address of the host")
    return own_asn


def _write_kernel(draft: Draft, kernels: list[Protocol], reader: PolicyReader, definitions: Definitions) -> bool:
    """[fib] by the kernel protocols; whether BIRD installs routes at all."""
    installs = False
    for kernel in kernels:
        table = draft.section("fib")
        for words, key in ((("kernel", "table"), "table"),):
            statement = kernel.last(*words)
            if statement is not None and (number := statement.number(*words)) is not None:
                table.put(key, number, f"{statement.place}: {statement}")
        for kind, channel in channels_of(kernel.statements).items():
            statement = channel.direction("export") or kernel.last("export")
            if statement is None:
                continue
            passes: tuple[FilterStatement, ...] | Inexpressible
            try:
                passes = of_learned(reader.filter_of(statement, table))
                if named_policy(compile_rules(passes, default=REJECT), exporting=False) == "all":
                    passes = (ACCEPT,)
            except Inexpressible as error:
                passes = Inexpressible(f"protocol kernel: {error}", error.line)
            if isinstance(passes, Inexpressible) or not is_closed(passes):
                installs = True
                definitions.installed.setdefault(kind, passes)
            _write_source(table, statement, reader.body_of(statement))
        if kernel.last("learn") is not None:
            proposed = draft.propose("workload.kernel")
            proposed.put("interfaces", ["cali*", "tap*"], f"{kernel.place}: protocol kernel with learn")
            what = "BIRD learns routes of other programs; here those that lead to interfaces which are named"
            draft.lose(kernel.place, what, "name the interfaces of the workloads", at=proposed)
    return installs


def _write_source(table: Table, statement: Statement, body: list[Token]) -> None:
    """krt_prefsrc of a kernel protocol's filter: the source of this host's own packets."""
    for name, sign, value in zip(body, body[1:], body[2:]):
        if (name.text, sign.text, value.kind) == ("krt_prefsrc", "=", "address"):
            before = table.values.get("preferred_source")
            addresses = before if isinstance(before, list) else []
            if value.text not in addresses:
                table.put("preferred_source", [*addresses, value.text], f"{statement.place}: {statement}")


def _write_static(draft: Draft, protocol: Protocol) -> None:
    for statement in protocol.statements:
        if not statement.starts("route"):
            continue
        prefix, rest = prefix_at(statement.words[1:])
        texts = [token.text for token in rest]
        if prefix and texts[:1] == ["via"] and len(rest) > 1 and rest[1].kind == "string":
            table = draft.add("workload.static")
            table.put("prefix", prefix, f"{statement.place}: {statement}")
            table.put("interface", rest[1].text)
        elif prefix and texts[:1] in (["blackhole"], ["unreachable"], ["prohibit"], ["reject"]):
            table = draft.add("aggregate", is_proposal=True)
            table.put("prefix", prefix, f"{statement.place}: {statement}")
            table.put("blackhole", True)
            what = f'"{statement}": BIRD has it always; an aggregate is announced while something is inside'
            draft.lose(statement.place, what, "take the # off if that is meant", at=table)
        else:
            draft.lose(statement.place, f'"{statement}" is not converted')


def _write_direct(draft: Draft, protocol: Protocol) -> None:
    """Addresses of the host: BIRD takes the networks of interfaces."""
    words = [word for one in protocol.statements if one.starts("interface") for word in one.words[1:]]
    names = [word.text for word in words if word.kind == "string"]
    wanted = [name for name in names if not name.startswith("-") and name != "*"]
    what = f"protocol direct {protocol.name}"
    announce_addresses(draft, protocol.place, what, interfaces=wanted)
    if len(wanted) != len(names) or not names or any(word.kind != "string" and word.text != "," for word in words):
        why = f"{what} takes other interfaces, too (all, or all but some)"
        draft.lose(protocol.place, why, "name the interfaces that are meant", at=draft.section(SECTION))
