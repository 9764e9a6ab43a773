"""What only lookers-on and orchestrators need does not keep the host from its routes: it is told, and tried again."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from bgpd.config.load import ConfigError, load_config
from labs.daemons import Frr
from labs.process import LabError
from tests.api.tls import make_certificate
from tests.daemon.fabric import Fabric, Host, heard_from_host, leaf, started, table

pytestmark = pytest.mark.netns

ADDRESS, PORT = "10.0.1.77", 9179
TOKEN = "0123456789abcdef-token"


def over_tcp(host: Host, certificate: Path) -> Any:
    """The answer of GET /v1/health. Raises: LabError: there is none (yet)."""
    with host.namespace.entered():
        sock = socket.socket()
    try:
        sock.settimeout(5)
        sock.connect((ADDRESS, PORT))
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        connection = http.client.HTTPSConnection(ADDRESS)
        connection.sock = context.wrap_socket(sock)
        connection.request("GET", "/v1/health", headers={"Authorization": f"Bearer {TOKEN}"})
        return json.loads(connection.getresponse().read())
    except OSError as error:
        raise LabError(f"no answer: {error}") from error
    finally:
        sock.close()


def test_host_forwards_without_token_certificate_address_and_broker_s_password_and_is_seen_when_they_come(
    fabric: Fabric, frr: Frr, tmp_path: Path
) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    certificate, key = make_certificate(tmp_path)
    contents = {file: file.read_bytes() for file in (certificate, key)}
    for file in contents:
        file.unlink()
    tables = (
        leaf(1),
        table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1"),
        table("[workload.mqtt]", broker="mqtt://127.0.0.1:1", password_file=str(password), initial_wait_s=0),
        table(
            "[api]",
            listen=f"{ADDRESS}:{PORT}",
            token_file=str(token),
            tls_certificate=str(certificate),
            tls_key=str(key),
        ),
    )
    with started(fabric, *tables) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the pod to be announced")

        def warned(text: str) -> bool:
            return any(text in warning for warning in host.health()["warnings"])

        assert warned(f'nobody can look on over TCP: api: "{token}" cannot be read')
        host.wait(lambda: warned(str(password)), "the broker's password to be missed")
        with pytest.raises(ConfigError) as checked:
            load_config(str(host.config_path))  # as bgpd check does
        assert all(str(file) in str(checked.value) for file in (token, password, certificate))

        token.write_text(TOKEN)
        for file, content in contents.items():
            file.write_bytes(content)
        host.wait(lambda: warned(f"api.listen {ADDRESS}:{PORT}: the address is not on this host"), "the files to do")
        host.namespace.ip("addr", "add", f"{ADDRESS}/32", "dev", "eth0")
        host.wait(lambda: over_tcp(host, certificate)["neighbors_established"] == 1, "the page to be served")
        assert not warned("nobody can look on")
        assert [record["event"] for record in host.log() if record["event"].startswith("api.")] == [
            "api.not_listening",
            "api.not_listening",
            "api.listening",
        ]

        token.unlink()
        told = host.cli("reload", "--json")
        assert str(token) in told, "what a start without it would lack is a warning of a reload"
        assert not warned("nobody can look on")
