"""Why a session is down: the NOTIFICATION stays visible behind what says less."""

from __future__ import annotations

import struct

import pytest

from tests.daemon.fabric import Fabric, Host, leaf, started
from tests.daemon.wire_peer import NOTIFICATION, WirePeer, message, receive

pytestmark = pytest.mark.netns


def error(host: Host) -> str:
    text: str = host.neighbor("leaf1")["last_error"]
    return text


def test_notification_is_shown_behind_refused_connections_and_with_its_age_once_the_session_is_up(
    fabric: Fabric,
) -> None:
    with started(fabric, leaf(1)) as host:
        with WirePeer(fabric.leaf1) as peer:
            connection = peer.accept()
            receive(connection)
            connection.sendall(message(NOTIFICATION, b"\2\2" + struct.pack("!H", 65203)))
            said = "the neighbor sent open-message/bad-peer-as: AS 65203"
            host.wait(lambda: said in error(host), "the reason")
        host.wait(lambda: "connection refused" in error(host), "the port to be closed")
        assert error(host).endswith(f"before that: {said}")
        with WirePeer(fabric.leaf1) as peer:
            peer.establish().close()
            host.wait(lambda: host.neighbor("leaf1")["flaps"] == 1, "the session's end")
            peer.establish()
            host.wait_established("leaf1")
            view = host.neighbor("leaf1")
            assert (view["flaps"], view["established_count"]) == (1, 2)
            assert view["last_notification_received"] == "open-message/bad-peer-as: AS 65203"
            assert view["last_notification_received_at"] < view["last_error_at"]
            shown = host.cli("explain", "10.9.1.1")
            assert "last error" not in shown or " ago)" in shown
