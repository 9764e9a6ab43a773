"""The command line's side of the API: HTTP over the unix socket, and errors that say what to do.

Only the standard library, since starting a command must be quick.
"""

from __future__ import annotations

import json
import os
import stat
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from bgpd import __version__
from bgpd.cli.progress import progress
from bgpd.cli.unix_http import UnixConnection

DEFAULT_SOCKET = "/run/bgpd/bgpd.sock"
"""Where `api.socket` is unless configured."""
TIMEOUT_S = 60.0
"""How long an order may take, or a question that takes work, ..."""
READ_TIMEOUT_S = 10.0
"""... and how long a question may be without an answer, or its answer without going on."""

_ANOTHER_PROGRAM = "another program may answer there: --socket or BGPD_SOCKET says where bgpd is"

Parameters = Mapping[str, str | int | bool | None]


class CommandFailed(Exception):
    """A command that cannot do its work: what is wrong, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what}\n{hint}" if hint else what)


class WrongUsage(CommandFailed):
    """A command that was not given what it needs, or what does not go together."""


class Client:
    """One daemon, by the path of its socket; a connection for each request.

    `daemon_uid` is the user that it runs as, `daemon_pid` its process, known once it was asked something.
    """

    def __init__(self, path: str) -> None:
        self.daemon_pid = 0
        self.daemon_uid: int | None = None
        self._path = path

    def get(self, target: str, parameters: Parameters | None = None, *, accepted: tuple[int, ...] = ()) -> Any:
        """The JSON of a view, which may come with one of the `accepted` statuses. Raises: CommandFailed."""
        return of_json(b"".join(self.stream("GET", target, parameters, accepted=accepted)))

    def views(self, target: str, parameters: Parameters | None = None) -> Iterator[list[Any]]:
        """The elements of a listing as they come, one list for each part of the answer. Raises: CommandFailed.

        The daemon writes an element to a line.
        """
        rest = b""
        for chunk in self.stream("GET", target, parameters):
            *lines, rest = (rest + chunk).split(b"\n")
            yield [of_json(line.rstrip(b",")) for line in lines if line.strip(b"[],\r ")]
        if rest.strip(b"[],\r "):
            of_json(rest)
            raise CommandFailed("the answer is no listing of bgpd's", _ANOTHER_PROGRAM)

    def order(
        self,
        method: str,
        target: str,
        *,
        parameters: Parameters | None = None,
        body: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The JSON answer to an order; a refusal that lists what is wrong with it is one too. Raises: CommandFailed."""
        accepted = (400, 404, 409, 413, 422)
        parts = self.stream(method, target, parameters, body=body, accepted=accepted, timeout_s=timeout_s)
        answer = of_json(b"".join(parts))
        if isinstance(answer, dict) and "error" in answer:
            raise CommandFailed(answer["error"], answer.get("hint", ""))
        return answer

    def stream(
        self,
        method: str,
        target: str,
        parameters: Parameters | None = None,
        *,
        body: bytes | None = None,
        accepted: tuple[int, ...] = (),
        timeout_s: float | None = READ_TIMEOUT_S,
        output: int | None = None,
    ) -> Iterator[bytes]:
        """The bytes of an answer as they come. Raises: CommandFailed. OutputClosed: nobody reads `output` any more."""
        target = _target(target, parameters)
        connection = UnixConnection(self._path, timeout_s, output=output)
        try:
            with progress.of("waiting for an answer"):
                status = connection.ask(method, target, body)
            self.daemon_uid, self.daemon_pid = connection.uid, connection.peer
            if status >= 400 and status not in accepted:
                raise _refusal(status, b"".join(connection.parts()))
            yield from connection.parts()
        except OSError as error:
            raise self._failure(error, connection) from None
        finally:
            connection.close()

    def _failure(self, error: Exception, connection: UnixConnection) -> CommandFailed:
        match error:
            case ConnectionRefusedError() if os.path.exists(self._path) and not stat.S_ISSOCK(
                os.stat(self._path).st_mode
            ):
                return CommandFailed(f"{self._path} is no socket", "give the daemon's with --socket or BGPD_SOCKET")
            case FileNotFoundError() | ConnectionRefusedError():
                hint = "start it (systemctl start bgpd), or give its socket with --socket or BGPD_SOCKET"
                return CommandFailed(f"bgpd is not running: nothing answers on {self._path}", hint)
            case PermissionError():
                hint = "run as root, or as a member of the socket's group (api.group)"
                return CommandFailed(f"no permission to use {self._path}", hint)
            case TimeoutError():
                who = f"bgpd (process {connection.peer})" if connection.peer else "bgpd"
                hint = (
                    "it is stopped or stuck: systemctl status bgpd, and its log; the kernel keeps its routes meanwhile"
                )
                return CommandFailed(f"{who} did not answer on {self._path} for {connection.timeout_s:.0f} s", hint)
            case BlockingIOError():  # as many connections wait as may
                hint = "it is stopped or stuck, or very many ask it: systemctl status bgpd, and its log"
                return CommandFailed(f"bgpd takes no more connections on {self._path}", hint)
            case ConnectionError():
                return CommandFailed("bgpd broke off its answer", "it may have been stopped; see its log")
        return CommandFailed(
            f"{self._path}: {error}", "is it the socket of bgpd? --socket or BGPD_SOCKET says where that is"
        )


def of_json(answer: bytes) -> Any:
    """What an answer says. Raises: CommandFailed: it is no JSON."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"the answer is no JSON: {error}", _ANOTHER_PROGRAM) from None


def other_daemon(path: str) -> CommandFailed | None:
    """What answers there, where it is no bgpd of this command's version: its answers may have another form."""
    try:
        version = Client(path).get("/v1/health", accepted=(503,))["version"]
    except (CommandFailed, KeyError, TypeError):
        return CommandFailed(f"what answers on {path} does not answer as bgpd {__version__} does", _ANOTHER_PROGRAM)
    if version == __version__:
        return None
    hint = "bgpd upgrade makes the daemon the installed version; else use the command of its version"
    return CommandFailed(f"bgpd {version} runs, and its answer is none that this command, {__version__}, knows", hint)


def _target(target: str, parameters: Parameters | None) -> str:
    """The path and what is asked. Raises: WrongUsage: something is no UTF-8, which no name here is."""
    for value in (parameters or {}).values():
        _refuse_other_than_utf8(value)
    given = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (parameters or {}).items()
        if value is not None
    }
    return f"{target}?{urllib.parse.urlencode(given)}" if given else target


def _refuse_other_than_utf8(value: object) -> None:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        shown = str(value).encode(errors="backslashreplace").decode()
        raise WrongUsage(f'"{shown}" is no UTF-8', "names and addresses are") from None


def segment(text: str) -> str:
    """What a person gave, as one part of a path. Raises: WrongUsage: it is no UTF-8."""
    _refuse_other_than_utf8(text)
    return urllib.parse.quote(text, safe="")


def _refusal(status: int, body: bytes) -> CommandFailed:
    try:
        answer = json.loads(body)
        return CommandFailed(str(answer["error"]), str(answer.get("hint", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        said = body[:200].decode(errors="replace")
        return CommandFailed(
            f"bgpd answered with status {status}: {said}", "is it bgpd that answers? --socket says where"
        )
