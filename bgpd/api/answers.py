"""Parameters of requests as structs, structs as answers: what all endpoints have in common."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TypeVar

import msgspec

from bgpd.api.backend import Rejected
from bgpd.api.http import Request, Response
from bgpd.model.utf8 import as_json

_Query = TypeVar("_Query", bound=msgspec.Struct)


def query_of(request: Request, kind: type[_Query]) -> _Query:
    """The parameters of a request. Raises: Rejected: with 400, one is unknown, or is no such value."""
    refuse_other_parameters(request, kind.__struct_fields__)
    try:
        return msgspec.convert(request.query, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Rejected(400, str(error)) from None


def refuse_other_parameters(request: Request, known: Collection[str]) -> None:
    """Raises: Rejected: with 400, a parameter is unknown, or there twice: what it was to narrow would not be."""
    for name in request.query:
        if name not in known:
            hint = f"one of: {', '.join(known)}" if known else "it takes none"
            raise Rejected(400, f'unknown parameter "{name[:80]}"', hint)
    for name in request.repeated:
        raise Rejected(400, f'parameter "{name}" is given twice', "each parameter once: one request for each value")


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises: Rejected: with 400, it is no address, or one that nobody can have."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Rejected(400, f'"{text}" is not an IP address', 'such as "10.64.1.5" or "2001:db8::5"') from None
    if address.is_unspecified:
        raise Rejected(400, f"{text} is nobody's address", f"bgpd show routes {text}/0 has the default route")
    return address


def json_answer(value: object, *, status: int = 200) -> Response:
    """The whole answer at once."""
    return Response(as_json(value) + b"\n", status=status, content_type="application/json")
