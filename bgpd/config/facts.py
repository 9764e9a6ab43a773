"""What a configuration may ask of the host that it is read on: its name, its loopback, its environment, its machine ID.

Asked only where a configuration needs it. What is given by hand (`bgpd check --set NAME=VALUE`) counts first.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bgpd.config.variables import NoValue

ENVIRONMENT_FILE = "/etc/bgpd/environment"
"""EnvironmentFile of systemd/bgpd.service."""
_ENVIRONMENT = "env:"
LOOPBACK_VERSIONS = {"loopback4": 4, "loopback6": 6}
"""Variables that stand for an address, and its version of IP."""


def system_hostname() -> str:
    """The host's name, without its domain."""
    return socket.gethostname().partition(".")[0]


def _no_loopback(within: Sequence[str]) -> tuple[str, str]:
    raise OSError("the host is not looked at")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one host. `given` are variables by name ("loopback4", "env:ASN"); `otherwise` what they are if nothing is
    known.

    `read_loopback` answers with the IPv4 and the IPv6 loopback address as text, "" where there is none; of prefixes, if
    any are named. `loopbacks` are these prefixes. It raises OSError if the kernel does not answer.
    """

    given: Mapping[str, str] = {}
    otherwise: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    hostname: str = ""
    machine_id: str = ""
    read_loopback: Callable[[Sequence[str]], tuple[str, str]] = _no_loopback
    loopbacks: tuple[str, ...] = ()

    def value_of(self, name: str) -> str:
        """What a variable stands for. Raises: NoValue, or LoopbackMissing."""
        value = self.given.get(name)
        if value is None and name.startswith(_ENVIRONMENT):
            value = self.environment.get(name.removeprefix(_ENVIRONMENT))
        elif value is None and name in LOOPBACK_VERSIONS:
            value = self._loopback(LOOPBACK_VERSIONS[name])
        elif value is None:
            value = self.hostname
        value = value if value is not None else self.otherwise.get(name)
        if value is not None:
            return value
        if name in LOOPBACK_VERSIONS:
            raise LoopbackMissing(LOOPBACK_VERSIONS[name], self.loopbacks)
        bare = name.removeprefix(_ENVIRONMENT)
        right = (
            f"write {bare}=VALUE into {ENVIRONMENT_FILE} (EnvironmentFile of the service) and restart bgpd; "
            f"on the command line --set {name}=VALUE says what it would be"
        )
        raise NoValue(f"the environment has no variable {bare}", right)

    def loopback4(self) -> str:
        """The IPv4 loopback address, "" if there is none."""
        try:
            return self.value_of("loopback4")
        except NoValue:
            return ""

    def has_loopback4(self, address: str) -> bool:
        """Whether an address is one of the host's loopback, be it another one that is chosen."""
        if "loopback4" in self.given:
            return self.given["loopback4"] == address
        try:
            return self.read_loopback([f"{address}/32"])[0] == address
        except (OSError, ValueError):
            return False

    def _loopback(self, version: int) -> str | None:
        try:
            found = self.read_loopback(self.loopbacks)
        except OSError:
            return None
        return found[version == 6] or None


class LoopbackMissing(NoValue):
    """The host has no loopback address; at a start it may get one a little later."""

    may_come = True

    def __init__(self, version: int, within: Sequence[str]) -> None:
        place = f" inside {', '.join(within)} (router.loopbacks)" if within else ""
        right = (
            "add one to lo, such as ip address add "
            + ("10.255.1.1/32" if version == 4 else "2001:db8::1/128")
            + f" dev lo; on the command line --set loopback{version}=ADDRESS says what it would be"
        )
        super().__init__(f"this host has no IPv{version} loopback address{place}", right)


def machine_id(root: str = "/") -> str:
    """The machine ID (machine-id(5)), "" if the host has none (yet)."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            text = (Path(root) / name).read_text(errors="replace").strip()
        except OSError:
            continue
        if len(text) == 32 and all(digit in "0123456789abcdef" for digit in text):
            return text
    return ""


def this_host(
    read_loopback: Callable[[Sequence[str]], tuple[str, str]],
    *,
    given: Mapping[str, str] | None = None,
    otherwise: Mapping[str, str] | None = None,
) -> Facts:
    """The host that this process runs on."""
    return Facts(
        given=given or {},
        otherwise=otherwise or {},
        environment=dict(os.environ),
        hostname=system_hostname(),
        machine_id=machine_id(),
        read_loopback=read_loopback,
    )
