"""[api] of a configuration: who may reach the TCP listener. A listener that others than this host can reach has TLS and
a token; nobody is served before the files of both are good.

Only says what is wrong; reads the files, and changes nothing.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator

from bgpd.config.schema import ApiConfig
from bgpd.config.shape import Finding
from bgpd.config.words import Wrong, bad_file, listen_address

LEAST_TOKEN = 16
MOST_TOKEN = 512
"""Characters of a token: too many to be guessed, and few enough for a header."""
FREE_PORTS = 1024
"""Ports from here on are not closed to the daemon by its unit (SocketBindDeny=)."""
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_RIGHT_TOKEN = "write one line of 16 to 512 visible ASCII characters, such as: openssl rand -hex 24"  # noqa: S105


class BadApiFile(Exception):
    """A file of [api] that cannot be used: what is wrong with it, and what to do."""

    def __init__(self, wrong: Wrong) -> None:
        super().__init__("; ".join(wrong))
        self.wrong = wrong


def read_token(file: str) -> bytes:
    """The token in a file. Raises: BadApiFile."""
    if wrong := bad_file(file):
        raise BadApiFile(wrong)
    try:
        with open(file, "rb") as opened:
            token = opened.read(4096).rstrip(b"\r\n")
    except OSError as error:
        raise BadApiFile((f'"{file}" cannot be read: {error.strerror}', _RIGHT_TOKEN)) from error
    if not LEAST_TOKEN <= len(token) <= MOST_TOKEN:
        raise BadApiFile((f'"{file}" has a token of {len(token)} characters', _RIGHT_TOKEN))
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise BadApiFile((f'"{file}" has a token with other characters than visible ASCII', _RIGHT_TOKEN))
    return token


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """What TLS connections are accepted with. Raises: BadApiFile."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have a context show the certificate in these files from now on. Raises: BadApiFile."""

    def no_passphrase() -> str:
        raise BadApiFile((f'"{key}" is encrypted', "nobody is there to type a passphrase: store the key without one"))

    for file in (certificate, key):
        if wrong := bad_file(file):
            raise BadApiFile(wrong)
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        what = f'"{certificate}" and "{key}" are no certificate and its key: {reason}'
        raise BadApiFile((what, "both in PEM, and made for each other")) from error


def check_api(api: ApiConfig) -> Iterator[Finding]:
    """What is wrong with the TCP listener, and who could reach it."""
    yield from _check_listen(api)
    if bool(api.tls_certificate) != bool(api.tls_key):
        given, other = ("tls_certificate", "tls_key") if api.tls_certificate else ("tls_key", "tls_certificate")
        yield Finding(("api", given), f"is set, and {other} is not", f"set {other}, or neither")


def warn_about_api(api: ApiConfig) -> Iterator[Finding]:
    """What lets in more than is meant, or nobody."""
    if int(api.mode, 8) & 0o002:
        what = f"{api.mode} lets every user of this host put workloads and read the configuration"
        yield Finding(("api", "mode"), what, 'such as "0660", with a group')
    if api.listen and (port := int(api.listen.rpartition(":")[2])) < FREE_PORTS:
        what = f"the unit of bgpd lets it listen on no port below {FREE_PORTS} but 179, so not on {port}"
        yield Finding(
            ("api", "listen"), what, f"take a higher port, or: systemctl edit bgpd, SocketBindAllow=tcp:{port}"
        )
    for number, name in enumerate(api.allowed_hosts):
        if not _HOST_NAME.fullmatch(name):
            what = f'"{name}" is no host name: no request calls this host so'
            yield Finding(("api", "allowed_hosts", number), what, 'the name alone, such as "host7.example.org"')


def check_api_files(api: ApiConfig) -> Iterator[Finding]:
    """What is wrong with the files of the token and of TLS, now."""
    if api.tls_certificate and api.tls_key:
        try:
            server_context(api.tls_certificate, api.tls_key)
        except BadApiFile as bad:
            yield Finding(("api", "tls_certificate"), *bad.wrong)
    if api.token_file:
        try:
            read_token(api.token_file)
        except BadApiFile as bad:
            yield Finding(("api", "token_file"), *bad.wrong)


def _check_listen(api: ApiConfig) -> Iterator[Finding]:
    if not api.listen:
        return
    try:
        host, _ = listen_address(api.listen)
    except ValueError as error:
        yield Finding(("api", "listen"), str(error), 'write ADDRESS:PORT, such as "127.0.0.1:9179" or "[::1]:9179"')
        return
    if ipaddress.ip_address(host).is_loopback:
        return
    missing = " and ".join(key for key in ("token_file", "tls_certificate") if not getattr(api, key))
    if missing:
        what = f'"{api.listen}" can be reached by others than this host, without {missing}'
        yield Finding(("api", "listen"), what, f"set {missing}, or listen on 127.0.0.1 or [::1]")
