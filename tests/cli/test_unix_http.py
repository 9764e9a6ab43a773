"""The command line's HTTP: answers as a server may write them, whole, in parts, broken off, and what is no HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bgpd import __version__
from bgpd.cli.client import Client, CommandFailed
from tests.cli.test_main import run


@contextmanager
def answering(path: Path, *pieces: bytes, times: int = 1) -> Iterator[list[bytes]]:
    """A server that hears one request, or some, writes the pieces and hangs up; what it heard."""
    heard: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for _ in range(times):
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                for piece in pieces:
                    connection.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        thread.join()
        listener.close()


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "length": (HEAD + b"content-length: 7\r\n\r\n[1, 2]\n",),
    "length, cut anywhere": (HEAD[:5], HEAD[5:] + b"Content-Le", b"ngth: 7\r\n\r", b"\n[1,", b" 2]\n"),
    "chunked": (CHUNKED + b"3\r\n[1,\r\n4\r\n 2]\n\r\n0\r\n\r\n",),
    "chunked, cut anywhere": (CHUNKED, b"3", b"\r\n[1", b",\r", b"\n4;x=y\r\n 2]\n\r\n", b"0\r\n\r\n"),
    "until the end": (HEAD + b"\r\n[1,", b" 2]\n"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_answer_is_read_however_it_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with answering(path, *WHOLE[name]) as heard:
        assert Client(str(path)).get("/v1/x", {"a": True, "b": None, "c": "é/"}) == [1, 2]
    assert heard[0].startswith(b"GET /v1/x?a=true&c=%C3%A9%2F HTTP/1.1\r\nHost: bgpd\r\n")


BROKEN = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "no status": b"HTTP/1.1 ok\r\n\r\n",
    "within the head": HEAD + b"Content-Length: 7\r\n",
    "too short": HEAD + b"Content-Length: 8\r\n\r\n[1, 2]\n",
    "no last part": CHUNKED + b"7\r\n[1, 2]\n\r\n",
    "within a part": CHUNKED + b"8\r\n[1, 2]\n",
    "no length": CHUNKED + b"zz\r\n[1, 2]\n\r\n0\r\n\r\n",
    "length below 0": CHUNKED + b"-7\r\n[1, 2]\n\r\n0\r\n\r\n",
    "length as Python writes it": CHUNKED + b"0x7\r\n[1, 2]\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_answer_that_breaks_off_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with answering(path, BROKEN[name]), pytest.raises(CommandFailed, match="broke off its answer"):
        Client(str(path)).get("/v1/x")


def test_order_without_a_body_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with answering(path, b"HTTP/1.1 204 No Content\r\n\r\n") as heard:
        assert list(Client(str(path)).stream("POST", "/v1/confirm")) == []
    assert b"\r\nContent-Length: 0\r\n" in heard[0]


def test_refusal_is_told_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    body = b'{"error": "no", "hint": "try"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n"
    with answering(path, head + body), pytest.raises(CommandFailed, match="no\ntry"):
        Client(str(path)).get("/v1/x")


def test_connections_that_nobody_takes_are_told_of(tmp_path: Path) -> None:
    """A daemon that is stopped, and asked by many."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        with pytest.raises(CommandFailed, match="takes no more connections"):
            Client(str(path)).get("/v1/x")


@pytest.mark.parametrize(
    "body", [b"<html>", b'"\xff"', b'{"a":' * 100_000], ids=["no JSON", "no UTF-8", "deeply nested"]
)
@pytest.mark.parametrize(
    "command", ["show vrfs --json --fields name", "status", "drain off", "explain 10.0.0.1 --at 1m"]
)
def test_another_program_behind_the_socket_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes, command: str
) -> None:
    path = tmp_path / "x.sock"
    with answering(path, HEAD + b"\r\n" + body):
        assert run(*command.split(), "--socket", str(path)) == 1
    assert "another program may answer there" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"[]", b"{}", b'"x"', b'{"version": "0.0.1"}', b'[{"name": "leaf1"}]'])
@pytest.mark.parametrize("command", ["status", "explain 10.0.0.1", "show neighbors", "drain status"])
def test_an_answer_of_another_form_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes, command: str
) -> None:
    """Of a daemon of another version, or of another program."""
    path = tmp_path / "x.sock"
    is_listing = command.startswith("show")
    if is_listing and body == b"[]":
        return
    with answering(path, HEAD + b"\r\n" + body, times=1 if is_listing else 2):
        assert run(*command.split(), "--socket", str(path)) == 1
    said = capsys.readouterr().err
    assert (
        "bgpd 0.0.1 runs" in said if b"0.0.1" in body and not is_listing else "another program may answer there" in said
    )


def test_a_defect_of_a_command_is_not_put_on_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    body = f'{{"version": "{__version__}"}}'.encode()
    with answering(path, HEAD + b"\r\n" + body, times=2), pytest.raises(KeyError):
        run("status", "--socket", str(path))
