"""The BFD process's end of the control channel (control.py): a unix socket, on which one daemon at a time is heard.

Only root and the process's own user may speak: the socket is closed to all others, and the kernel is asked who is
connected. A newer connection takes the place of an older one, whose daemon is gone or will be soon.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
from collections.abc import Callable

from bgpd.bfd.control import END, WANT, BadLine, Desired, Key, hello_line, read_desired, wrong_hello
from bgpd.bfd.sockets import adopt

_READ_SIZE = 1 << 16
_MAX_UNREAD = 4 << 20
"""Bytes of a set that has no end yet."""
_MAX_UNSENT = 4 << 20
"""Bytes that a daemon does not read: its connection is closed, and it hears all when it comes back."""


class AnotherRuns(Exception):
    """Another BFD process has the socket."""


class Server:
    """The listening socket, and the daemon that is connected. `greeted` is called when one is there, `wanted` is given
    each whole set; the caller answers through `send`. `log` takes lines for people. `descriptor` is that of a socket
    which listens already.
    """

    def __init__(
        self,
        path: str,
        poller: select.epoll,
        *,
        greeted: Callable[[], None],
        wanted: Callable[[dict[Key, Desired]], None],
        log: Callable[[str], None],
        descriptor: int = -1,
    ) -> None:
        self._path = path
        self._poller = poller
        self._greeted = greeted
        self._wanted = wanted
        self._log = log
        self._listener = adopt(descriptor) if descriptor >= 0 else _listen(path)
        self._client: socket.socket | None = None
        self._unread = b""
        self._unsent = b""
        self._is_greeted = False
        self._all_desired: dict[Key, Desired] = {}
        poller.register(self._listener.fileno(), select.EPOLLIN)

    @property
    def has_client(self) -> bool:
        """Whether a daemon is connected that speaks our language."""
        return self._is_greeted

    @property
    def descriptor(self) -> int:
        """Of the listening socket."""
        return self._listener.fileno()

    def handles(self, descriptor: int, events: int) -> bool:
        """Do what is due on a descriptor; False if it is none of ours."""
        if descriptor == self.descriptor:
            self._accept()
        elif self._client is not None and descriptor == self._client.fileno():
            if events & select.EPOLLOUT:
                self._flush()
            if events & ~select.EPOLLOUT and self._client is not None:
                self._read()
        else:
            return False
        return True

    def listen_again(self) -> None:
        """To be called now and then: where there were no descriptors, say, there may be some again. Until then nothing
        is heard of a daemon that waits, which else would be all that this process does."""
        self._poller.modify(self.descriptor, select.EPOLLIN)

    def send(self, *lines: str) -> None:
        """Send lines to the daemon, if there is one."""
        if self._is_greeted:
            self._unsent += "".join(f"{line}\n" for line in lines).encode()
            self._flush()

    def close(self) -> None:
        """Let go of all, and remove the socket's file."""
        self._drop("")
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            self._log(f"no daemon can connect for now: {error}")
            self._poller.modify(self.descriptor, 0)
            return
        packed = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _gid = struct.unpack("3i", packed)
        if uid not in (0, os.geteuid()):
            self._log(f"process {pid} of user {uid} was refused")
            client.close()
            return
        self._drop("another one has connected")
        client.setblocking(False)
        self._client = client
        self._poller.register(client.fileno(), select.EPOLLIN)
        self._log(f"daemon {pid} has connected")

    def _drop(self, why: str) -> None:
        if self._client is None:
            return
        if why:
            self._log(f"daemon is disconnected: {why}")
        self._poller.unregister(self._client.fileno())
        self._client.close()
        self._client, self._is_greeted = None, False
        self._unread = self._unsent = b""
        self._all_desired = {}

    def _read(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(str(error))
            return
        if not data:
            self._drop("it has closed the connection; the sessions go on")
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if problem := self._take(line.decode("ascii", "replace")):
                self._drop(problem)
                return
        if len(self._unread) > _MAX_UNREAD:
            self._drop("its line has no end")

    def _take(self, line: str) -> str:
        """Understand a line; what is wrong with it, "" if nothing."""
        if not self._is_greeted:
            if problem := wrong_hello(line):
                return problem
            self._is_greeted = True
            self.send(hello_line())
            self._greeted()
            return ""
        word, _, rest = line.partition(" ")
        if word == WANT:
            try:
                desired = read_desired(rest)
            except BadLine as error:
                return str(error)
            self._all_desired[desired.key] = desired
        elif word == END:
            all_desired, self._all_desired = self._all_desired, {}
            self._wanted(all_desired)
        return ""

    def _flush(self) -> None:
        if self._client is None:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[self._client.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._drop(str(error))
            return
        if len(self._unsent) > _MAX_UNSENT:
            self._drop("it does not read")
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0)
        self._poller.modify(self._client.fileno(), wanted)


def _listen(path: str) -> socket.socket:
    """Raises: AnotherRuns: its socket takes connections. OSError: the socket cannot be made there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    former = os.umask(0o177)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(former)
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "there is something that is no socket: remove it, or set another bfd.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # it is so busy, or stopped, that its queue is full
        raise AnotherRuns(f"another BFD process listens on {path}")
