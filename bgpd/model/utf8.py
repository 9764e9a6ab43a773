"""Values as JSON and MessagePack, also where a text is no UTF-8.

The kernel takes any bytes for the name of an interface, and Python keeps those that are no UTF-8 as surrogates, which
neither format has: they are written as "?".
"""

from __future__ import annotations

from typing import Any

import msgspec

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


def as_json(value: object) -> bytes:
    """JSON."""
    try:
        return _json(value)
    except UnicodeEncodeError:
        return _json(_writable(msgspec.to_builtins(value, enc_hook=msgspec.json.decode)))  # of JSON in it (Raw)


def as_msgpack(value: object) -> bytes:
    """MessagePack."""
    try:
        return _msgpack(value)
    except UnicodeEncodeError:
        return _msgpack(_writable(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_of_raw)))


def _of_raw(value: Any) -> Any:
    return msgspec.msgpack.decode(value)  # of MessagePack in it (Raw)


def _writable(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case list() | tuple():
            return [_writable(one) for one in value]
        case dict():
            return {_writable(key): _writable(one) for key, one in value.items()}
    return value
