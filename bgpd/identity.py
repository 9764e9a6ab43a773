"""Keeps what asn = "auto" and router_id = "auto" stand for, for the next start (config/identity.py chooses)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from bgpd.config.identity import FILE, read_identity
from bgpd.model.identity import Identity
from bgpd.runtime.files import replace_file

log = structlog.get_logger()


class IdentityFile:
    """The file in a state directory. `error` says why it could not be written, "" if it could."""

    def __init__(self, directory: str) -> None:
        self.error = ""
        self._directory = directory

    def keep(self, identity: Identity) -> None:
        """Write what is in force where that is not there yet; what is configured now keeps what it had."""
        known, problem = read_identity(self._directory)
        wanted = identity.or_else(known)
        self.error = ""
        if wanted == known and not problem:
            return
        path = Path(self._directory) / FILE
        try:
            replace_file(path, msgspec.json.encode(wanted))
        except OSError as error:
            self.error = f"{path} cannot be written: {error.strerror}; after a restart asn and router_id may be others"
            log.warning("identity.not_kept", path=str(path), error=str(error))
        else:
            values = {name: one.value for name in ("asn", "router_id") if (one := getattr(wanted, name)) is not None}
            log.info("identity.kept", path=str(path), **values)
