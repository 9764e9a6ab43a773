"""Decodes UPDATE messages into route batches. Hot path: no object is made per route.

The usual UPDATE announces or withdraws prefixes of one family, and nothing is wrong with it: `read_run` reads many in
one go (plain_updates.py). `decode` takes any other apart (update_sections.py), has its attributes judged
(attribute_decoder.py) and its NLRI split (nlri.py, evpn_nlri.py); judgement.py says what it costs. Decides which next
hop counts, which is unusable (RFC 4271 section 6.3, RFC 2545 section 3, RFC 4760 section 3, RFC 8950), and which
prefixes are ignored. Whether a next hop can be reached is not known here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from functools import partial
from itertools import compress

from bgpd.message.attribute_decoder import AttributeDecoder, BlockFacts
from bgpd.message.judgement import (
    DecodedUpdate,
    FieldRoutes,
    all_keys,
    batches_of,
    judge,
    note_missing,
    session_reset,
)
from bgpd.message.nlri import PrefixSplitter
from bgpd.message.open import Negotiated, family_name
from bgpd.message.plain_updates import PlainFamily, PlainReader, read_run
from bgpd.message.update_sections import UpdateError, UpdateSections, fatal, split_update
from bgpd.model.attributes import Attributes
from bgpd.model.iana import FAMILY_BY_CODE, Family, UpdateSubcode
from bgpd.model.martians import Block, first_bytes, martians
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import format_address, format_key, is_link_local
from bgpd.model.route_batch import RouteBatch
from bgpd.model.wire import MalformedNlri, NlriCodec, NlriDecoders, NlriRoutes, Reaction, RouteGroup, WireError

_SECTION, _UNUSABLE = "RFC 4271 section 6.3", "RFC 9136 section 3.2"
_LENGTHS_IPV6 = (16, 32)
_CACHE_LIMIT = 4096
_UNSPECIFIED = b"\0" * 16
_LOOPBACK = b"\0" * 15 + b"\1"


class NextHopReader:
    """The next hops of one session. `interface` scopes link-local addresses; `local_addresses` are this host's own.

    `takes_any`: of a guest of this host, whose next hops are this host's own addresses or say nothing.
    """

    def __init__(
        self, negotiated: Negotiated, *, interface: str, local_addresses: Container[bytes], takes_any: bool = False
    ) -> None:
        self._takes_any = takes_any
        extended = Family.IPV4_UNICAST in negotiated.extended_next_hop
        self._lengths: dict[Family, tuple[int, ...]] = {
            Family.IPV4_UNICAST: (4, *_LENGTHS_IPV6) if extended else (4,),
            Family.IPV6_UNICAST: _LENGTHS_IPV6,
            Family.L2VPN_EVPN: (4, 16),
            Family.ROUTE_TARGET: (4, 16),
        }
        self._interface = interface
        self._local_addresses = local_addresses
        self._known: dict[bytes, NextHop] = {}
        self._own: dict[bytes, set[Family]] = {}

    def no_longer_own(self) -> set[Family]:
        """The families of which routes were withdrawn since this host had their next hop itself, and has it no more;
        answered once."""
        gone = [packed for packed in self._own if packed not in self._local_addresses]
        return set().union(*[self._own.pop(packed) for packed in gone])

    def classic(self, packed: bytes, errors: list[WireError]) -> NextHop | None:
        """The NEXT_HOP attribute of IPv4 NLRI, b"" where it is missing or malformed."""
        if not packed:
            if not any(error.attribute == "NEXT_HOP" for error in errors):
                errors.append(_withdraw("mandatory attribute is missing", "RFC 7606 section 3 d", "NEXT_HOP", 3))
            return None
        return self._checked(Family.IPV4_UNICAST, packed, "NEXT_HOP", errors)

    def multiprotocol(
        self, family: Family, field: bytes, errors: list[WireError], attribute: bytes = b""
    ) -> NextHop | None:
        """The next hop field of MP_REACH_NLRI; `attribute` is all of that, for the NOTIFICATION.

        Raises: UpdateError: a length that the family does not have (RFC 7606 section 7.11).
        """
        if len(field) not in self._lengths[family]:
            message = f"next hop of {len(field)} bytes for {family}"
            subcode = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR
            raise UpdateError(fatal(message, "RFC 7606 section 7.11", "MP_REACH_NLRI", subcode, attribute))
        packed = field
        if len(field) == 32:
            link_local = field[16:]
            usable = self._interface and is_link_local(link_local)
            packed = link_local if usable or field[:16] == _UNSPECIFIED else field[:16]
        return self._checked(family, packed, "MP_REACH_NLRI", errors)

    def usable(self, family: Family, field: bytes) -> NextHop | None:
        """The next hop of either attribute if nothing is wrong with it."""
        try:
            return self.multiprotocol(family, field, [])
        except UpdateError:
            return None

    def _checked(self, family: Family, packed: bytes, attribute: str, errors: list[WireError]) -> NextHop | None:
        next_hop = self._known.get(packed)
        if next_hop is None:
            if _is_nowhere(packed) and not self._takes_any:
                message = f"next hop {format_address(packed)} is no host's address"
                errors.append(_withdraw(message, _SECTION, attribute, UpdateSubcode.INVALID_NEXT_HOP))
                return None
            if len(self._known) >= _CACHE_LIMIT:
                self._known.clear()
            next_hop = NextHop(packed, self._interface if is_link_local(packed) else "")
            self._known[packed] = next_hop
        if packed in self._local_addresses and not self._takes_any:
            self._own.setdefault(packed, set()).add(family)
            message = f"next hop {format_address(packed)} is this host's own address"
            subcode = UpdateSubcode.INVALID_NEXT_HOP
            errors.append(
                WireError(Reaction.TREAT_AS_WITHDRAW, message, _SECTION, attribute, subcode=subcode, is_echo=True)
            )
            return None
        return next_hop


def _is_nowhere(packed: bytes) -> bool:
    """Unspecified, loopback, IPv4 multicast and broadcast. 240.0.0.0/4 may pass: networks use it, and so does Linux."""
    if len(packed) == 4:
        return packed[0] in (0, 127) or packed[0] >> 4 == 14 or packed == b"\xff\xff\xff\xff"
    return packed in (_UNSPECIFIED, _LOOPBACK)


def _withdraw(message: str, section: str, attribute: str, subcode: int) -> WireError:
    return WireError(Reaction.TREAT_AS_WITHDRAW, message, section, attribute, subcode)


_END_OF_RIB = b"\0\0\0\0"
_NO_ROUTES = NlriRoutes()
_EVPN = Family.L2VPN_EVPN
_USUAL_GROUPS = 4
"""Groups of EVPN routes in an UPDATE, by ESI, gateway IP and type, that need not be taken bit by bit."""
_Splitter = Callable[[bytes], NlriRoutes]
_prefix_splitter = functools.cache(PrefixSplitter)
"""One for all sessions: it keeps nothing, and its tables are large."""


class UpdateDecoder:
    """The UPDATE messages of one session.

    `nlri_decoders` split the families other than IPv4 and IPv6 unicast. `interface` scopes link-local next hops.
    `local_addresses` are this host's packed addresses: a route to one of them is unusable (RFC 4271 section 5.1.3).
    Martians are ignored (RFC 4271 section 6.3) unless `accept_martians`; `martians` counts them, and the first of each
    block is an error of its UPDATE. Routes with sets of AS numbers are withdrawn (RFC 9774) unless `accept_as_sets`.
    """

    def __init__(
        self,
        negotiated: Negotiated,
        *,
        nlri_decoders: NlriDecoders,
        interface: str = "",
        local_addresses: Container[bytes] = frozenset(),
        accept_martians: bool = False,
        accept_as_sets: bool = False,
        takes_any_next_hop: bool = False,
    ) -> None:
        self.martians = 0
        self._accept_martians = accept_martians
        self._blocks_noted: set[Block] = set()
        self._attributes = AttributeDecoder(negotiated, accept_as_sets=accept_as_sets)
        self._families = frozenset(negotiated.families)
        self._codecs = nlri_decoders
        self._splitters: dict[Family, _Splitter] = {family: codec.decode for family, codec in nlri_decoders.items()}
        plain: dict[Family, PlainFamily] = {}
        for family, bits in ((Family.IPV4_UNICAST, 32), (Family.IPV6_UNICAST, 128)):
            splitter = _prefix_splitter(bits)
            with_identifiers = family in negotiated.add_path
            split = splitter.split_with_path_identifiers if with_identifiers else splitter.split
            self._splitters[family] = _in_one_group(split)
            if family in self._families and not with_identifiers:
                plain[family] = _plain_family(family, splitter, accept_martians=accept_martians)
        self._next_hops = NextHopReader(
            negotiated, interface=interface, local_addresses=local_addresses, takes_any=takes_any_next_hop
        )
        evpn = None
        if {_EVPN} <= self._families & self._codecs.keys():
            evpn = partial(_usual_evpn, self._codecs[_EVPN], accept_martians)
        self._plain_reader = PlainReader(
            self._attributes.plain,
            ipv4=plain.get(Family.IPV4_UNICAST),
            ipv6=plain.get(Family.IPV6_UNICAST),
            evpn=evpn,
            next_hop=self._next_hops.usable,
        )

    def read_run(self, bodies: list[bytes], into: list[RouteBatch]) -> int:
        """Append the routes of the first UPDATEs, as far as these are usual: they announce or withdraw routes of IPv4,
        IPv6 or EVPN, and nothing is wrong with them. How many those are; the next one is for `decode`."""
        return read_run(self._plain_reader, bodies, into)

    def decode(self, body: bytes) -> DecodedUpdate:
        """Routes and errors of an UPDATE, given without its 19-byte header."""
        if body == _END_OF_RIB:
            return DecodedUpdate(end_of_rib=Family.IPV4_UNICAST)
        errors: list[WireError] = []
        try:
            sections = split_update(body)
            if sections.ends_rib and sections.unreach is not None:
                family = FAMILY_BY_CODE.get((sections.unreach.afi, sections.unreach.safi))
                return DecodedUpdate(end_of_rib=family if family in self._families else None)
            attributes, facts = self._attributes.decode(sections.block)
            errors += facts.errors
            routes = self._routes(sections, attributes, facts, errors)
        except UpdateError as refused:
            errors.append(refused.error)
            return session_reset(errors)
        if not errors:
            return DecodedUpdate(batches=batches_of(routes, attributes))
        return judge(sections, routes, attributes, errors)

    def next_hops_no_longer_own(self) -> set[Family]:
        """The families of which routes were withdrawn for a next hop that this host had, and has no more; answered
        once. The neighbor announces them still."""
        return self._next_hops.no_longer_own()

    def attributes_of(self, block: bytes) -> Attributes:
        """The valid attributes of a block without MP attributes."""
        return self._attributes.decode(block)[0]

    def _routes(
        self, sections: UpdateSections, attributes: Attributes, facts: BlockFacts, errors: list[WireError]
    ) -> list[FieldRoutes]:
        """All routes; what is wrong with them is added to `errors`.

        Withdrawn fields come before reachable ones, so that a prefix in both is announced (RFC 4271 section 4.3).

        Raises: UpdateError: some NLRI cannot be read.
        """
        found = []
        if sections.has_reachable and facts.missing:
            note_missing(facts.missing, errors)
        if sections.unreach is not None and sections.unreach.nlri:
            unreach_family = self._family(sections.unreach.afi, sections.unreach.safi, errors, "MP_UNREACH_NLRI")
            if unreach_family is not None:
                unreach = sections.unreach
                gone = self._split(unreach_family, unreach.nlri, errors, "MP_UNREACH_NLRI", unreach.packed)
                found.append(FieldRoutes(unreach_family, all_keys(gone)))
        if sections.withdrawn or sections.nlri:
            family = Family.IPV4_UNICAST
            withdrawn = self._split(family, sections.withdrawn, errors, "")
            announced = self._without_martians(
                family, self._split(family, sections.nlri, errors, ""), sections.nlri, errors
            )
            next_hop = self._next_hops.classic(facts.next_hop, errors) if sections.nlri else None
            found.append(FieldRoutes(family, all_keys(withdrawn), announced.announced, next_hop))
        reach = sections.reach
        if reach is not None:
            reach_family = self._family(reach.afi, reach.safi, errors, "MP_REACH_NLRI")
            if reach_family is not None:
                next_hop = self._next_hops.multiprotocol(reach_family, reach.next_hop, errors, reach.packed)
                routes = self._split(reach_family, reach.nlri, errors, "MP_REACH_NLRI", reach.packed)
                routes = self._without_unusable(reach_family, routes, attributes, errors)
                routes = self._without_martians(reach_family, routes, reach.nlri, errors)
                found.append(FieldRoutes(reach_family, routes.malformed, routes.announced, next_hop))
        return found

    def _without_unusable(
        self, family: Family, routes: NlriRoutes, attributes: Attributes, errors: list[WireError]
    ) -> NlriRoutes:
        """Routes that their attributes make unusable are withdrawn, and no others of the UPDATE."""
        codec = self._codecs.get(family)
        if codec is None:
            return routes
        groups, malformed = [], list(routes.malformed)
        for group in routes.announced:
            why = codec.why_unusable(group.keys[0][0], group.overlay, attributes)
            if why:
                malformed += group.keys
                errors.append(WireError(Reaction.TREAT_AS_WITHDRAW, why, _UNUSABLE, "MP_REACH_NLRI", one_route=True))
            else:
                groups.append(group)
        return NlriRoutes(groups, malformed, routes.errors)

    def _without_martians(
        self, family: Family, routes: NlriRoutes, field: bytes, errors: list[WireError]
    ) -> NlriRoutes:
        groups = []
        for group in routes.announced:
            keys = group.keys
            found = () if self._accept_martians else martians(family, keys, field)
            self.martians += len(found)
            for key, block in found:
                if block not in self._blocks_noted:
                    self._blocks_noted.add(block)
                    errors.append(_martian(family, key, block))
            if found:
                ignored = {key for key, _block in found}
                stays = [key not in ignored for key in keys]
                labels = None if group.labels is None else list(compress(group.labels, stays))
                group = RouteGroup(list(compress(keys, stays)), group.overlay, labels)
            if group.keys:
                groups.append(group)
        return NlriRoutes(groups, routes.malformed, routes.errors)

    def _family(self, afi: int, safi: int, errors: list[WireError], attribute: str) -> Family | None:
        family = FAMILY_BY_CODE.get((afi, safi))
        if family in self._families and family in self._splitters:
            return family
        message = f"{family_name(afi, safi)} was not negotiated: ignored"
        errors.append(WireError(Reaction.ATTRIBUTE_DISCARD, message, "RFC 4760 section 8", attribute))
        return None

    def _split(
        self, family: Family, field: bytes, errors: list[WireError], attribute: str, packed: bytes = b""
    ) -> NlriRoutes:
        if not field:
            return _NO_ROUTES
        try:
            routes = self._splitters[family](field)
        except MalformedNlri as malformed:
            subcode = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR if attribute else UpdateSubcode.INVALID_NETWORK_FIELD
            raise UpdateError(
                fatal(f"{family}: {malformed}", "RFC 7606 section 5.3", attribute, subcode, packed)
            ) from None
        errors += routes.errors
        return routes


def _martian(family: Family, key: bytes, block: Block) -> WireError:
    route = f"EVPN route {key.hex()}" if family is Family.L2VPN_EVPN else f"prefix {format_key(family, key)}"
    message = f"{route} is inside {block.prefix} ({block.purpose}): such prefixes are ignored without accept_martians"
    return WireError(Reaction.TREAT_AS_WITHDRAW, message, _SECTION, one_route=True)


def _plain_family(family: Family, splitter: PrefixSplitter, *, accept_martians: bool) -> PlainFamily:
    return PlainFamily(
        splitter.sizes,
        splitter.host_bits,
        split=splitter.split,
        suspects=bytes(256) if accept_martians else _suspects(family),
        is_clear=lambda keys, field: accept_martians or not martians(family, keys, field),
    )


@functools.cache
def _suspects(family: Family) -> bytes:
    """1 for each first address byte that a martian may have."""
    firsts = first_bytes(family)
    return bytes(bytes((value,)) in firsts for value in range(256))


def _usual_evpn(
    codec: NlriCodec, accept_martians: bool, field: bytes, attributes: Attributes | None
) -> Sequence[RouteGroup] | None:
    """The EVPN routes of a field with these attributes (None: withdrawn); None if one is to be judged, or there are
    so many groups that they are not passed on at once."""
    try:
        routes = codec.decode(field)
    except MalformedNlri:
        return None
    groups = routes.announced
    if routes.errors or routes.malformed or len(groups) > _USUAL_GROUPS:
        return None
    if attributes is None:
        return groups
    for group in groups:
        if codec.why_unusable(group.keys[0][0], group.overlay, attributes):
            return None
        if not accept_martians and martians(_EVPN, group.keys, field):
            return None
    return groups


def _in_one_group(split: Callable[[bytes], Sequence[bytes]]) -> _Splitter:
    return lambda field: NlriRoutes(announced=(RouteGroup(split(field)),))
