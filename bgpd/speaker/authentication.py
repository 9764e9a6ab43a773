"""How the segments of a session are authenticated: by a TCP MD5 key (RFC 2385) or TCP-AO keys (RFC 5925), never both.

Reads the keys from their files, and sets them on sockets: all at once on one that is to connect, the difference on
one that listens, and the next key on an established connection, which goes on.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable

import msgspec

from bgpd.config.password_file import BadPasswordFile, read_password_file
from bgpd.config.schema_sessions import SessionConfig
from bgpd.config.tcp_ao import NO_TCP_AO, has_tcp_ao
from bgpd.speaker.saved import SavedKeys
from bgpd.speaker.socket_options import set_md5_key
from bgpd.speaker.tcp_ao import TcpAoKey, add_key, ask_for, delete_key


class Md5(msgspec.Struct, frozen=True):
    """One key, for both directions."""

    key: bytes


class TcpAo(msgspec.Struct, frozen=True):
    """The keys of a neighbor; the first is the one to be used, the others are understood."""

    keys: tuple[TcpAoKey, ...]


Authentication = Md5 | TcpAo


class BadAuthentication(Exception):
    """Keys that cannot be used; the text says why."""


def saved_keys(address: bytes, prefix_length: int, authentication: Authentication) -> SavedKeys:
    """What a listening socket wants of a neighbor or range, for another process."""
    return SavedKeys(address, prefix_length, [key.ids for key in _ao_keys(authentication)])


def left_keys(saved: SavedKeys) -> Authentication:
    """What a listening socket of another process wants: as good as the keys themselves to take them from it."""
    if not saved.tcp_ao:
        return Md5(b"")
    return TcpAo(tuple(TcpAoKey(send_id=one, receive_id=two, algorithm="", key=b"") for one, two in saved.tcp_ao))


def is_wanted(config: SessionConfig) -> bool:
    """Whether segments have to be authenticated."""
    return bool(config.password_file or config.tcp_ao)


def read_authentication(config: SessionConfig) -> Authentication | None:
    """The keys of a [[neighbor]] or [[listen]], from their files; None if it has none.

    Raises: BadAuthentication: a file cannot be read, or this kernel has no TCP-AO.
    """
    try:
        if config.password_file:
            return Md5(read_password_file(config.password_file))
        if not config.tcp_ao:
            return None
        if not has_tcp_ao():
            raise BadAuthentication(f"tcp_ao: {NO_TCP_AO}")
        return TcpAo(
            tuple(
                TcpAoKey(
                    send_id=one.send_id,
                    receive_id=one.receive_id,
                    algorithm=one.algorithm,
                    key=read_password_file(one.key_file),
                )
                for one in config.tcp_ao
            )
        )
    except BadPasswordFile as error:
        raise BadAuthentication(f"{'tcp_ao' if config.tcp_ao else 'password_file'} {error.wrong[0]}") from error


def set_for_connecting(sock: socket.socket, address: bytes, authentication: Authentication) -> None:
    """What a socket signs with that is to connect to a neighbor, and wants from it.

    Raises: OSError: the kernel lacks TCP MD5, TCP-AO or the algorithm.
    """
    length = 8 * len(address)
    if isinstance(authentication, Md5):
        set_md5_key(sock, address, length, authentication.key)
        return
    for number, key in enumerate(authentication.keys):
        add_key(sock, address, length, key, is_preferred=number == 0)


def set_for_listening(
    sock: socket.socket,
    address: bytes,
    prefix_length: int,
    wanted: Authentication | None,
    *,
    former: Authentication | None,
) -> None:
    """What a listening socket wants from a neighbor, or a range of them, in place of the `former`.

    Raises: OSError: the kernel lacks TCP MD5, TCP-AO or the algorithm, or refuses a key: then it has none of them.
    """
    if isinstance(former, Md5) and not isinstance(wanted, Md5):
        with contextlib.suppress(FileNotFoundError):
            set_md5_key(sock, address, prefix_length, b"")
    before, after = _ao_keys(former), _ao_keys(wanted)
    _delete(sock, address, prefix_length, [key for key in before if key not in after])
    have = [key for key in before if key in after]
    try:
        for key in after:
            if key not in have:
                _replace(sock, address, prefix_length, key)
                have.append(key)
    except OSError:
        _delete(sock, address, prefix_length, have)
        raise
    if isinstance(wanted, Md5):
        set_md5_key(sock, address, prefix_length, wanted.key)


def roll(
    sock: socket.socket, address: bytes, prefix_length: int, wanted: TcpAo, *, former: Authentication | None
) -> TcpAo:
    """Other keys on an established connection: new ones are understood, the first is asked for, old ones go.

    A key is known by its IDs: one with the same IDs and other contents counts from the next connection on. One that
    the neighbor still signs with stays. Answers the keys that the connection has now.

    Raises: OSError: the kernel takes a key not.
    """
    have = {key.ids: key for key in _ao_keys(former)}
    for key in wanted.keys:
        if key.ids not in have:
            with contextlib.suppress(FileExistsError):  # a connection whose keys are not known here
                add_key(sock, address, prefix_length, key)
            have[key.ids] = key
    if wanted.keys:
        ask_for(sock, wanted.keys[0])
    for ids in [ids for ids in have if ids not in {key.ids for key in wanted.keys}]:
        try:
            delete_key(sock, address, prefix_length, have[ids])
        except OSError as error:
            if error.errno == errno.EBUSY:
                continue
            if error.errno != errno.ENOENT:
                raise
        del have[ids]
    return TcpAo(tuple(have.values()))


def _replace(sock: socket.socket, address: bytes, prefix_length: int, key: TcpAoKey) -> None:
    """A socket that another process has left has keys that are not known here."""
    try:
        add_key(sock, address, prefix_length, key)
    except FileExistsError as error:
        try:
            delete_key(sock, address, prefix_length, key)
        except FileNotFoundError:
            raise error from None
        add_key(sock, address, prefix_length, key)


def _delete(sock: socket.socket, address: bytes, prefix_length: int, keys: Iterable[TcpAoKey]) -> None:
    for key in keys:
        with contextlib.suppress(FileNotFoundError):
            delete_key(sock, address, prefix_length, key)


def problem_text(error: OSError, authentication: Authentication) -> str:
    """Why the kernel does not take keys, and what would help."""
    if isinstance(authentication, Md5):
        return f"password_file: TCP MD5: {error.strerror or error}"
    match error.errno:
        case errno.ENOPROTOOPT:
            return f"tcp_ao: {NO_TCP_AO}"
        case errno.ENOENT | errno.EOPNOTSUPP:
            names = ", ".join(sorted({key.algorithm for key in authentication.keys}))
            return f"tcp_ao: this kernel lacks an algorithm of {names} (CONFIG_CRYPTO_HMAC, _SHA1, _SHA256, _CMAC)"
        case errno.EEXIST:
            return "tcp_ao: its key IDs are taken by another [[neighbor]] or [[listen]] of the same address"
        case errno.EKEYREJECTED:
            return "tcp_ao: the kernel has a TCP MD5 key for the same address: is it in a [[listen]] with a password?"
        case _:
            return f"tcp_ao: {error.strerror or error}"


def hint(authentication: Authentication | None) -> str:
    """What to ask where a neighbor does not answer: the kernel drops segments with a wrong signature silently."""
    match authentication:
        case Md5():
            return "is the password the same on both sides?"
        case TcpAo():
            return "are the TCP-AO key and algorithm the same on both sides, and its send ID there the receive ID here?"
        case None:
            return "does the neighbor want an MD5 password?"


def _ao_keys(authentication: Authentication | None) -> tuple[TcpAoKey, ...]:
    return authentication.keys if isinstance(authentication, TcpAo) else ()
