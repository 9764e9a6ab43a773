"""What `bgpd check` says of the TCP listener, its token and its TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bgpd.config.check_api import check_api, check_api_files, server_context, warn_about_api
from bgpd.config.schema import ApiConfig
from tests.api.tls import make_certificate


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    return str(certificate), str(key)


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    return str(file)


def found(**config: str) -> list[tuple[str, str]]:
    api = ApiConfig(**config)
    return [(str(finding.path[1]), finding.what) for check in (check_api, check_api_files) for finding in check(api)]


@pytest.mark.parametrize("listen", ["0.0.0.0:9179", "10.0.0.1:9179", "[::]:9179", "[2001:db8::1]:9179"])
def test_listener_that_others_can_reach_needs_token_and_tls(listen: str, pair: tuple[str, str], token: str) -> None:
    certificate, key = pair
    for config, missing in (
        ({}, "token_file and tls_certificate"),
        ({"token_file": token}, "tls_certificate"),
        ({"tls_certificate": certificate, "tls_key": key}, "token_file"),
    ):
        ((path, what),) = found(listen=listen, **config)
        assert path == "listen"
        assert what.endswith(f"without {missing}")
    assert found(listen=listen, token_file=token, tls_certificate=certificate, tls_key=key) == []


@pytest.mark.parametrize("name", ["*", "*.example.org", "http://host7", "host7:9179", "host 7", "host7/", "[::1]", ""])
def test_a_host_that_no_request_can_name_is_warned_of(name: str) -> None:
    """A browser would be told that it is no name of this host, and nobody why."""
    hosts = ["host7", name, "host_7.example.org"]
    assert [finding.path for finding in warn_about_api(ApiConfig(allowed_hosts=hosts))] == [("api", "allowed_hosts", 1)]


@pytest.mark.parametrize(
    ("listen", "warned"),
    [("127.0.0.1:443", True), ("[::1]:80", True), ("[::1]:1023", True), ("127.0.0.1:1024", False), ("", False)],
)
def test_a_port_that_the_unit_does_not_allow_is_warned_of(listen: str, warned: bool) -> None:
    """SocketBindDeny=tcp:1-1023 of bgpd.service."""
    assert [finding.path for finding in warn_about_api(ApiConfig(listen=listen))] == [("api", "listen")] * warned


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9179", "127.9.9.9:9179", "[::1]:9179"])
def test_listener_of_this_host_needs_neither(listen: str) -> None:
    assert found(listen=listen) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "0 characters"),
        (b"short\n", "5 characters"),
        (b"x" * 513, "513 characters"),
        (b"0123456789 abcdef", "other characters"),
        ("0123456789abcdeé".encode(), "other characters"),
        (b"0123456789abcdef\nsecond line", "other characters"),
    ],
)
def test_token_is_one_line_that_cannot_be_guessed(tmp_path: Path, text: bytes, what: str) -> None:
    (tmp_path / "token").write_bytes(text)
    assert what in found(token_file=str(tmp_path / "token"))[0][1]


def test_files_must_be_there_and_fit(tmp_path: Path, pair: tuple[str, str]) -> None:
    certificate, key = pair
    assert "cannot be read" in found(token_file=str(tmp_path / "none"))[0][1]
    assert "not a regular file" in found(token_file=str(tmp_path))[0][1]
    assert found(tls_certificate=certificate) == [("tls_certificate", "is set, and tls_key is not")]
    assert found(tls_key=key) == [("tls_key", "is set, and tls_certificate is not")]
    assert "cannot be read" in found(tls_certificate=str(tmp_path / "none"), tls_key=key)[0][1]
    (tmp_path / "text").write_text("no certificate")
    assert "no certificate and its key" in found(tls_certificate=str(tmp_path / "text"), tls_key=key)[0][1]
    _, other = make_certificate(tmp_path, "other")
    assert "no certificate and its key" in found(tls_certificate=certificate, tls_key=str(other))[0][1]
    assert server_context(certificate, key).minimum_version.name == "TLSv1_2"


def test_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path, pair: tuple[str, str]) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    assert "is encrypted" in found(tls_certificate=pair[0], tls_key=str(locked))[0][1]
