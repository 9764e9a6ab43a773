"""TCP-AO: the structures as linux/tcp.h has them, which keys a socket gets, and how they roll.

Few kernels have it: its rules (Documentation/networking/tcp_ao.rst) are scripted here, and the real one is used where
there is one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.config.schema_sessions import NeighborConfig, TcpAoKeyConfig
from bgpd.config.tcp_ao import ALGORITHMS, TCP_AO_INFO, has_tcp_ao
from bgpd.model.prefix import parse_address
from bgpd.speaker import authentication as authentication_module
from bgpd.speaker.authentication import (
    Authentication,
    BadAuthentication,
    Md5,
    TcpAo,
    hint,
    problem_text,
    read_authentication,
    roll,
    set_for_connecting,
    set_for_listening,
)
from bgpd.speaker.tcp_ao import (
    TCP_AO_ADD_KEY,
    TCP_AO_DEL_KEY,
    TcpAoKey,
    add_key,
    pack_add,
    pack_delete,
    state_of,
)

U8, U16, U32, U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
PEER, PEER6 = parse_address("10.0.0.1"), parse_address("2001:db8::1")


class Address(ctypes.Structure):
    """struct __kernel_sockaddr_storage."""

    _fields_ = (("family", U16), ("port", U16), ("rest", U8 * 124))


class Add(ctypes.Structure):
    """struct tcp_ao_add of linux/tcp.h."""

    _fields_ = (
        ("addr", Address),
        ("alg_name", ctypes.c_char * 64),
        ("ifindex", ctypes.c_int32),
        ("set_current", U32, 1),
        ("set_rnext", U32, 1),
        ("reserved", U32, 30),
        ("reserved2", U16),
        ("prefix", U8),
        ("sndid", U8),
        ("rcvid", U8),
        ("maclen", U8),
        ("keyflags", U8),
        ("keylen", U8),
        ("key", U8 * 80),
    )


class Delete(ctypes.Structure):
    """struct tcp_ao_del of linux/tcp.h."""

    _fields_ = (
        ("addr", Address),
        ("ifindex", ctypes.c_int32),
        ("set_current", U32, 1),
        ("set_rnext", U32, 1),
        ("del_async", U32, 1),
        ("reserved", U32, 29),
        ("reserved2", U16),
        ("prefix", U8),
        ("sndid", U8),
        ("rcvid", U8),
        ("current_key", U8),
        ("rnext", U8),
        ("keyflags", U8),
    )


class Info(ctypes.Structure):
    """struct tcp_ao_info_opt of linux/tcp.h."""

    _fields_ = (
        ("set_current", U32, 1),
        ("set_rnext", U32, 1),
        ("ao_required", U32, 1),
        ("set_counters", U32, 1),
        ("accept_icmps", U32, 1),
        ("reserved", U32, 27),
        ("reserved2", U16),
        ("current_key", U8),
        ("rnext", U8),
        ("pkt_good", U64),
        ("pkt_bad", U64),
        ("pkt_key_not_found", U64),
        ("pkt_ao_required", U64),
        ("pkt_dropped_icmp", U64),
    )


def key(number: int, *, secret: bytes = b"secret", algorithm: str = "hmac-sha1-96") -> TcpAoKey:
    """Its receive ID is 100 more than its send ID."""
    return TcpAoKey(send_id=number, receive_id=100 + number, algorithm=algorithm, key=secret)


class Kernel:
    """A socket by the kernel's rules; `used` are the send IDs that segments are signed with."""

    def __init__(self, *, listens: bool = False) -> None:
        self.listens = listens
        self.keys: dict[tuple[int, int], bytes] = {}
        self.prefixes: set[int] = set()
        self.current = self.next = -1
        self.md5 = b""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert level == socket.IPPROTO_TCP
        if option == TCP_AO_ADD_KEY:
            self._add(Add.from_buffer_copy(value))
        elif option == TCP_AO_DEL_KEY:
            self._delete(Delete.from_buffer_copy(value))
        elif option == TCP_AO_INFO:
            info = Info.from_buffer_copy(value)
            assert not self.listens
            assert (info.set_current, info.set_rnext, info.reserved) == (0, 1, 0)
            assert any(receive == info.rnext for _, receive in self.keys) or _fail(errno.ENOENT)
            self.next = info.rnext
        else:
            self.md5 = value

    def _add(self, option: Any) -> None:
        ids = option.sndid, option.rcvid
        if any(ids[0] == send or ids[1] == receive for send, receive in self.keys):
            _fail(errno.EEXIST)
        assert option.addr.port == 0
        self.prefixes.add(option.prefix)
        self.keys[ids] = bytes(option.key)[: option.keylen]
        if option.set_current:
            assert not self.listens
            self.current, self.next = ids

    def _delete(self, option: Any) -> None:
        ids = option.sndid, option.rcvid
        if ids not in self.keys:
            _fail(errno.ENOENT)
        if ids[0] == self.current or ids[1] == self.next:
            _fail(errno.EBUSY)
        del self.keys[ids]

    @property
    def as_socket(self) -> socket.socket:
        return self  # type: ignore[return-value]


def _fail(number: int) -> bool:
    raise OSError(number, os.strerror(number))


def test_structures_are_those_of_linux() -> None:
    packed = pack_add(PEER, 32, key(1, secret=b"x" * 80), is_preferred=True)
    assert len(packed) == ctypes.sizeof(Add) == 288
    add = Add.from_buffer_copy(packed)
    assert (add.addr.family, bytes(add.addr.rest)[:4], add.prefix) == (socket.AF_INET, PEER, 32)
    assert (add.alg_name, add.maclen, add.keylen, bytes(add.key)) == (b"hmac(sha1)", 12, 80, b"x" * 80)
    assert (add.set_current, add.set_rnext, add.sndid, add.rcvid) == (1, 1, 1, 101)
    assert (add.ifindex, add.reserved, add.reserved2, add.keyflags) == (0, 0, 0, 0)
    delete = Delete.from_buffer_copy(packed := pack_delete(PEER6, 64, key(2)))
    assert len(packed) == ctypes.sizeof(Delete) == 144
    assert (delete.addr.family, bytes(delete.addr.rest)[4:20], delete.prefix) == (socket.AF_INET6, PEER6, 64)
    assert (delete.sndid, delete.rcvid, delete.set_current, delete.del_async, delete.reserved2) == (2, 102, 0, 0, 0)
    assert ctypes.sizeof(Info) == 48


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_code_leaves_room_for_the_options_of_a_syn(algorithm: str) -> None:
    """40 bytes less time stamps, window scale and SACK permitted; the option's own header has 4."""
    assert ALGORITHMS[algorithm].code_bytes + 4 <= 40 - 12 - 4 - 4


def test_socket_that_connects_signs_with_the_first_key_and_understands_all() -> None:
    sock = Kernel()
    set_for_connecting(sock.as_socket, PEER, TcpAo((key(1), key(2))))
    assert sock.keys.keys() == {(1, 101), (2, 102)}
    assert (sock.current, sock.next, sock.prefixes) == (1, 101, {32})


def test_listening_socket_gets_what_is_new_and_loses_what_is_gone() -> None:
    sock, network = Kernel(listens=True), parse_address("10.0.0.0")
    stages: list[Authentication | None] = [
        TcpAo((key(1),)),
        TcpAo((key(2), key(1))),
        TcpAo((key(2),)),
        TcpAo((key(2, secret=b"other"),)),
        None,
    ]
    former: Authentication | None = None
    for wanted in stages:
        set_for_listening(sock.as_socket, network, 24, wanted, former=former)
        assert sock.keys == ({one.ids: one.key for one in wanted.keys} if isinstance(wanted, TcpAo) else {})
        former = wanted
    assert sock.prefixes == {24}


def test_listening_socket_whose_key_is_refused_has_none_and_may_be_tried_again() -> None:
    sock, former = Kernel(listens=True), TcpAo((key(1),))
    set_for_listening(sock.as_socket, PEER, 32, former, former=None)
    sock.keys[7, 8] = b"of another range"
    wanted = TcpAo((key(1), key(2), key(7)))
    with pytest.raises(FileExistsError):
        set_for_listening(sock.as_socket, PEER, 32, wanted, former=former)
    assert sock.keys.keys() == {(7, 8)}
    del sock.keys[7, 8]
    set_for_listening(sock.as_socket, PEER, 32, wanted, former=None)
    assert sock.keys.keys() == {one.ids for one in wanted.keys}


def test_listening_socket_of_a_former_process_takes_the_keys_that_it_has_already() -> None:
    sock = Kernel(listens=True)
    set_for_listening(sock.as_socket, PEER, 32, TcpAo((key(1, secret=b"former"),)), former=None)
    set_for_listening(sock.as_socket, PEER, 32, TcpAo((key(1), key(2))), former=None)
    assert sock.keys == {(1, 101): b"secret", (2, 102): b"secret"}


def test_password_gives_way_to_tcp_ao_on_a_listening_socket_and_back() -> None:
    sock = Kernel(listens=True)
    password, ao = Md5(b"secret"), TcpAo((key(1),))
    set_for_listening(sock.as_socket, PEER, 32, password, former=None)
    assert b"secret" in sock.md5
    set_for_listening(sock.as_socket, PEER, 32, ao, former=password)
    assert b"secret" not in sock.md5
    assert sock.keys
    set_for_listening(sock.as_socket, PEER, 32, password, former=ao)
    assert b"secret" in sock.md5
    assert not sock.keys


def test_keys_roll_on_an_established_connection_and_the_old_one_goes_when_the_neighbor_has_left_it() -> None:
    sock = Kernel()
    set_for_connecting(sock.as_socket, PEER, old := TcpAo((key(1),)))
    both = roll(sock.as_socket, PEER, 32, TcpAo((key(1), key(2))), former=old)
    assert (sock.current, sock.next, set(sock.keys)) == (1, 101, {(1, 101), (2, 102)})
    both = roll(sock.as_socket, PEER, 32, TcpAo((key(2), key(1))), former=both)
    assert (sock.current, sock.next) == (1, 102), "asked for; the neighbor has not answered yet"
    still = roll(sock.as_socket, PEER, 32, TcpAo((key(2),)), former=both)
    assert {one.ids for one in still.keys} == set(sock.keys) == {(1, 101), (2, 102)}, "signed with until then"
    sock.current = 2
    done = roll(sock.as_socket, PEER, 32, TcpAo((key(2),)), former=still)
    assert done == TcpAo((key(2),))
    assert set(sock.keys) == {(2, 102)}


def test_key_with_other_contents_counts_from_the_next_connection_on() -> None:
    sock = Kernel()
    set_for_connecting(sock.as_socket, PEER, old := TcpAo((key(1),)))
    after = roll(sock.as_socket, PEER, 32, TcpAo((key(1, secret=b"other"),)), former=old)
    assert after == old
    assert sock.keys[1, 101] == b"secret"


def test_connection_whose_keys_are_not_known_goes_on() -> None:
    sock = Kernel()
    set_for_connecting(sock.as_socket, PEER, TcpAo((key(1),)))
    assert roll(sock.as_socket, PEER, 32, TcpAo((key(1), key(2))), former=None) == TcpAo((key(1), key(2)))


def test_kernel_that_refuses_a_key_is_told_of() -> None:
    sock = Kernel()
    set_for_connecting(sock.as_socket, PEER, old := TcpAo((key(1),)))
    clash = TcpAoKey(send_id=1, receive_id=9, algorithm="hmac-sha1-96", key=b"x")
    roll(sock.as_socket, PEER, 32, TcpAo((key(1), key(2))), former=old)
    with pytest.raises(FileExistsError):
        add_key(sock.as_socket, PEER, 32, clash)


def config(path: Path, *, send_ids: tuple[int, ...] = (1,)) -> NeighborConfig:
    keys = tuple(TcpAoKeyConfig(key_file=str(path), send_id=one, receive_id=one) for one in send_ids)
    fields = {"name": "leaf1", "address": "10.0.0.1", "asn": 65201, "import": "all"}
    return msgspec.structs.replace(msgspec.convert(fields, NeighborConfig), tcp_ao=keys)


def test_keys_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication_module, "has_tcp_ao", lambda: True)
    path = tmp_path / "key"
    path.write_text("secret\n")
    found = read_authentication(config(path, send_ids=(7, 3)))
    assert isinstance(found, TcpAo)
    assert [(one.send_id, one.key) for one in found.keys] == [(7, b"secret"), (3, b"secret")]
    path.unlink()
    with pytest.raises(BadAuthentication, match=r"tcp_ao .*No such file"):
        read_authentication(config(path))


def test_kernel_without_tcp_ao_is_told_before_a_socket_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication_module, "has_tcp_ao", lambda: False)
    with pytest.raises(BadAuthentication, match=r"this kernel has no TCP-AO \(Linux 6.7"):
        read_authentication(config(tmp_path / "key"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOPROTOOPT, "no TCP-AO"),
        (errno.ENOENT, "lacks an algorithm of hmac-sha1-96"),
        (errno.EEXIST, "IDs are taken"),
        (errno.EKEYREJECTED, "TCP MD5 key for the same address"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_refusals_say_what_to_look_at(number: int, words: str) -> None:
    assert words in problem_text(OSError(number, os.strerror(number)), TcpAo((key(1),)))


def test_silence_is_explained_by_how_segments_are_signed() -> None:
    assert "TCP-AO key and algorithm" in hint(TcpAo((key(1),)))
    assert "password the same" in hint(Md5(b"x"))
    assert "want an MD5 password" in hint(None)


def test_connection_without_tcp_ao_has_no_state() -> None:
    with socket.socket() as sock:
        assert state_of(sock) is None


@pytest.mark.skipif(not has_tcp_ao(), reason="this kernel has no TCP-AO")
def test_two_sockets_of_a_kernel_that_has_it_roll_their_keys() -> None:
    """Both sides on the loopback interface: connected with the first key, still there with the second."""
    loopback = parse_address("127.0.0.1")

    def mirrored(number: int) -> TcpAoKey:
        return TcpAoKey(send_id=100 + number, receive_id=number, algorithm="hmac-sha1-96", key=b"secret")

    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        set_for_listening(listener, loopback, 32, TcpAo((mirrored(1), mirrored(2))), former=None)
        listener.listen()
        set_for_connecting(client, loopback, old := TcpAo((key(1),)))
        dialed = threading.Thread(target=client.connect, args=(listener.getsockname(),))
        dialed.start()
        server, _ = listener.accept()
        dialed.join()
        with server:
            both = roll(client, loopback, 32, TcpAo((key(2), key(1))), former=old)
            for sender, receiver in ((client, server), (server, client)) * 3:
                sender.sendall(b"x")
                assert receiver.recv(1) == b"x"
            state = state_of(client)
            assert state is not None
            assert state.next == 102
            roll(server, loopback, 32, TcpAo((mirrored(2), mirrored(1))), former=TcpAo((mirrored(1), mirrored(2))))
            for sender, receiver in ((client, server), (server, client)) * 3:
                sender.sendall(b"x")
                assert receiver.recv(1) == b"x"
            assert roll(client, loopback, 32, TcpAo((key(2),)), former=both) == TcpAo((key(2),))
