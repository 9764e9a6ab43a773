"""The unix socket of the API: bound with its mode and group, a stale file replaced, a live one left alone."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

from bgpd.config.schema import ApiConfig
from bgpd.runtime.events import log


class SocketUnusable(Exception):
    """The socket cannot be bound; the text says why, and what to do."""


def bind_unix_socket(config: ApiConfig) -> socket.socket:
    """A bound, listening, non-blocking socket at `config.socket`.

    Raises: SocketUnusable: another daemon listens there, the path is something else, or it may not be written.
    """
    path = config.socket
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    former_mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise SocketUnusable(_why(path, error)) from None
    finally:
        os.umask(former_mask)
    _give_to_group(path, config.group)
    os.chmod(path, int(config.mode, 8))
    listener.listen(128)
    return listener


def remove_unix_socket(config: ApiConfig) -> None:
    """Delete the socket's file, so that the command line reports at once that no daemon runs."""
    Path(config.socket).unlink(missing_ok=True)


def _remove_stale(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketUnusable(_why(path, error)) from None
    if not stat.S_ISSOCK(mode):
        raise SocketUnusable(f"{path} exists and is not a socket: remove it, or set another api.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            log.info("api.stale_socket_removed", path=path)
            return
        except OSError as error:
            raise SocketUnusable(_why(path, error)) from None
    raise SocketUnusable(f"bgpd is already running: it answers on {path}; stop it first, or set another api.socket")


def _give_to_group(path: str, group: str) -> None:
    if not group:
        return
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError) as error:
        why = "no such group" if isinstance(error, KeyError) else "not a member of it, and not root"
        log.warning("api.group_not_set", group=group, why=why, left="only the daemon's own group may connect")


def _why(path: str, error: OSError) -> str:
    directory = os.path.dirname(path)
    match error.errno:
        case errno.ENOENT:
            return f"{path}: there is no directory {directory}; create it (systemd does: RuntimeDirectory=bgpd)"
        case errno.EACCES | errno.EPERM:
            return f"{path}: no permission to write in {directory}; run as root, or set another api.socket"
        case errno.EROFS:
            return f"{path}: {directory} is read-only; set another api.socket"
    return f"{path}: {error.strerror}"
