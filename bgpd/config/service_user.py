"""What the user that the service runs as can read: `bgpd check` is often run by root, who can read everything.

Asks the kernel, in a child process that gives its rights up: groups, directories and access lists count as they do for
the daemon.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable

SERVICE_USER = "bgpd"
"""The user of systemd/bgpd.service."""


def uid_of(name: str) -> int | None:
    """The number of a user; None: there is none of this name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def name_of(uid: int) -> str:
    """A user's name, else its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unreadable(files: Iterable[str], uid: int) -> dict[str, str]:
    """The files that a user cannot open, and why; none if it is not for this process to know (it is not root's)."""
    wanted = list(files)
    if os.geteuid() != 0 or uid == 0 or not wanted:
        return {}
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _become(uid)
            os.write(sender, json.dumps(_why_not(wanted)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(sender)
    with open(receiver, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    reasons: dict[str, str] = json.loads(found) if found else {}
    return reasons


def _become(uid: int) -> None:
    try:
        user = pwd.getpwuid(uid)
        gid, groups = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:
        gid, groups = uid, []
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def _why_not(files: Iterable[str]) -> dict[str, str]:
    reasons = {}
    for file in files:
        try:
            os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            reasons[file] = error.strerror or str(error)
    return reasons
