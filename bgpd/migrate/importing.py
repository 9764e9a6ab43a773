"""From the files of another program to the text of a configuration: reads, converts, makes it fit, writes.

Passwords that stood in the files go into files of their own, with a mode that only the daemon's group can read; where
they cannot, the neighbor is written so that nothing is exchanged without one.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from bgpd.config.service_user import SERVICE_USER
from bgpd.migrate.draft import Draft, ImportFailed, Place, Secret, Table
from bgpd.migrate.filters import OWN_PATH
from bgpd.migrate.fitting import DoesNotFit, make_fit
from bgpd.migrate.toml_writer import write_draft
from bgpd.runtime.files import write_new

FORMATS: Mapping[str, str] = {
    "bird": "bgpd.migrate.bird:import_bird",
    "calico": "bgpd.migrate.calico:import_calico",
    "frr": "bgpd.migrate.frr:import_frr",
    "gobgp": "bgpd.migrate.gobgp:import_gobgp",
    "metallb": "bgpd.migrate.metallb:import_metallb",
}
PASSWORD_DIRECTORY = "/etc/bgpd"  # noqa: S105
_SHARED_MODE = 0o640
_OWN_MODE = 0o600


class Settings(NamedTuple):
    """What a person says beside the files. `node` is the host that the configuration is for (Kubernetes' name)."""

    node: str = ""
    passwords: str = ""
    force: bool = False


class Imported(NamedTuple):
    """The text of a configuration, and what was not taken over."""

    text: str
    losses: list[str]


def convert(kind: str, files: Sequence[str], settings: Settings) -> Imported:
    """The configuration that files of one format come to. Writes password files where `settings` names a directory.

    Raises: ImportFailed: a file cannot be read as that format, or a password file not be written.
    """
    module, _, function = FORMATS[kind].partition(":")
    importer: Callable[..., Draft] = getattr(import_module(module), function)
    draft = importer(files, settings.node) if kind in ("calico", "metallb") else importer(files)
    return finish(draft, files[0] if len(files) == 1 else f"{kind} files", settings)


def finish(draft: Draft, source: str, settings: Settings) -> Imported:
    """The text of a draft that `bgpd check` accepts, with its passwords. Raises: ImportFailed."""
    _tell_of_internal_paths(draft, source)
    try:
        make_fit(draft, Place(source))
    except DoesNotFit as error:
        raise ImportFailed(Place(source), f"comes to a configuration that cannot be used: {error}") from None
    for secret in draft.secrets:
        _keep_password(draft, secret, settings)
    return Imported(write_draft(draft), list(map(str, draft.losses)))


def _tell_of_internal_paths(draft: Draft, source: str) -> None:
    """Rules know this host's own routes by their empty AS path, which routes of internal neighbors may have, too."""
    own_asn = draft.section("router").values.get("asn")
    by_path = [
        str(table.values["name"])
        for table in draft.of("policy")
        if any(OWN_PATH in rule.get("match", {}).get("as_path", ()) for rule in _rules_of(table))
    ]
    learns = [
        table
        for table in (*draft.of("neighbor"), *draft.of("listen"))
        if table.values.get("asn") in ("internal", own_asn) and table.values.get("import") != "none"
    ]
    if by_path and learns:
        what = f'"{OWN_PATH}" in {", ".join(by_path)} stands for routes of this host, and internal neighbors'
        right = "routes that begin in this AS pass, too: refuse them on import if they are not to be passed on"
        draft.lose(Place(source), f"{what} announce some with an empty AS path", right)


def _rules_of(table: Table) -> list[dict[str, Any]]:
    rules = table.values["rules"]
    return rules if isinstance(rules, list) else []


def _keep_password(draft: Draft, secret: Secret, settings: Settings) -> None:
    name = "".join(one if one.isalnum() or one in "._-" else "-" for one in secret.file_name).strip(".") or "neighbor"
    if settings.passwords and secret.password:
        file = Path(settings.passwords, f"{name}.key").absolute()
        _write_password(file, secret, force=settings.force)
        secret.table.put("password_file", str(file), f"{secret.place}: the password that stood there")
        return
    file = Path(PASSWORD_DIRECTORY, f"{name}.key")
    secret.table.propose("password_file", str(file), f"{secret.place}: the password belongs into this file, mode 0640")
    for key in ("import", "export"):
        wanted = secret.table.values.get(key, "local")
        if wanted != "none":
            secret.table.propose(f"{key}", wanted, "with the password")
            secret.table.values[key] = "none"
            secret.table.comments[key] = "until there is a password"
    why = "the files do not have its password" if not secret.password else "its password is not written into a file"
    what = f"{why}: without one nothing is exchanged"
    right = (
        f"write it into {file} (chown root:{SERVICE_USER}, chmod 640), take the # off password_file, import and export"
    )
    draft.lose(secret.place, what, right, at=secret.table)


def _write_password(file: Path, secret: Secret, *, force: bool) -> None:
    data = secret.password.encode(errors="replace")
    if len(data) > 80 or b"\n" in data:
        raise ImportFailed(secret.place, "the password is longer than 80 bytes", "no TCP MD5 key is; is it encrypted?")
    try:
        if file.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and nobody knows whose file it leads to")
        first = file.with_name(file.name + ".new") if force else file
        if force:
            first.unlink(missing_ok=True)
        write_new(first, data + b"\n", mode=_OWN_MODE)
        if (gid := _service_group()) is not None:
            os.chown(first, 0, gid)
            first.chmod(_SHARED_MODE)
        first.replace(file)
    except FileExistsError:
        raise ImportFailed(Place(str(file)), "is there already", "remove it, or add --force") from None
    except OSError as error:
        raise ImportFailed(Place(str(file)), f"cannot be written: {error.strerror}") from None


def _service_group() -> int | None:
    """The group that may read password files; None where there is no such user, or only root could give it to them."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVICE_USER).pw_gid
    except KeyError:
        return None
