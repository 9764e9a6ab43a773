"""The one reader of password and key files of neighbors (TCP MD5, RFC 2385; TCP-AO, RFC 5925), for `bgpd check`, reload
and the sessions alike.

Only says what is wrong with a file; the caller decides what to do.
"""

from __future__ import annotations

from bgpd.config.words import Wrong, bad_file

MD5_KEY_BYTES = 80
"""TCP_MD5SIG_MAXKEYLEN of linux/tcp.h; TCP_AO_MAXKEYLEN is the same."""
_RIGHT = "write one line with the password, readable by the user that bgpd runs as"


class BadPasswordFile(Exception):
    """A file that gives no password: what is wrong with it, and what to do."""

    def __init__(self, wrong: Wrong) -> None:
        super().__init__("; ".join(wrong))
        self.wrong = wrong


def read_password_file(file: str) -> bytes:
    """The password in a file, without the end of its line.

    Raises: BadPasswordFile: it cannot be read, is no regular file, is empty or too long.
    """
    if wrong := bad_file(file):
        raise BadPasswordFile((wrong[0], _RIGHT))
    try:
        with open(file, "rb") as opened:
            key = opened.read(4096).rstrip(b"\r\n")
    except OSError as error:
        raise BadPasswordFile((f'"{file}" cannot be read: {error.strerror}', _RIGHT)) from error
    if not key:
        raise BadPasswordFile((f'"{file}" is empty', _RIGHT))
    if len(key) > MD5_KEY_BYTES:
        right = f"a TCP MD5 or TCP-AO key has at most {MD5_KEY_BYTES} in Linux"
        raise BadPasswordFile((f'"{file}" holds {len(key)} bytes', right))
    return key
