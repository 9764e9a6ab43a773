"""Keeps what asn = "auto" and router_id = "auto" stand for, for the next start (config/identity.py chooses)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bgpd.config.identity import FILE, read_identity
from bgpd.model.identity import Identity
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of, replace_file


class OwnIdentity:
    """What "auto" stands for in this run, `in_force`, and its file in the state directory.

    `error` says why the file could not be written, "" if it could.
    """

    def __init__(self, directory: str, in_force: Identity) -> None:
        self.in_force = in_force
        self.error = ""
        self._directory = directory

    def warnings(self) -> list[str]:
        """What `bgpd status` warns of."""
        return [self.error] if self.error else []

    def take(self, identity: Identity) -> None:
        """This is in force from now on; what is configured meanwhile is remembered."""
        self.in_force = identity.or_else(self.in_force)
        self.keep()

    def keep(self) -> None:
        """Write what is in force where that is not there yet."""
        known, problem = read_identity(self._directory)
        wanted = self.in_force.or_else(known)
        self.error = ""
        if wanted == known and not problem:
            return
        path = Path(self._directory) / FILE
        try:
            replace_file(path, msgspec.json.encode(wanted))
        except OSError as error:
            self.error = (
                f"{path} cannot be written: {reason_of(error)}; after a restart asn and router_id may be others"
            )
            log.warning("identity.not_kept", path=str(path), error=reason_of(error))
        else:
            values = {name: one.value for name in ("asn", "router_id") if (one := getattr(wanted, name)) is not None}
            log.info("identity.kept", path=str(path), **values)
