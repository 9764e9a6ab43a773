"""What of TCP-AO (RFC 5925) is known without a session: the algorithms, and whether this kernel has it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

import msgspec

TCP_AO_INFO = 40
"""A socket option of linux/tcp.h."""
NO_TCP_AO = "this kernel has no TCP-AO (Linux 6.7 and newer, built with CONFIG_TCP_AO)"


class AoAlgorithm(msgspec.Struct, frozen=True):
    """The kernel's name of an algorithm, and the bytes of a segment's authentication code."""

    kernel_name: str
    code_bytes: int


ALGORITHMS: Mapping[str, AoAlgorithm] = {
    "hmac-sha1-96": AoAlgorithm("hmac(sha1)", 12),
    "aes-128-cmac-96": AoAlgorithm("cmac(aes128)", 12),
    "hmac-sha256-128": AoAlgorithm("hmac(sha256)", 16),
}
"""The two of RFC 5926, and the one that other routers have besides."""


def has_tcp_ao() -> bool:
    """Whether this kernel has TCP-AO: only then it finds that the value is too short."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_AO_INFO, bytes(4))
        except OSError as error:
            return error.errno != errno.ENOPROTOOPT
    return True
