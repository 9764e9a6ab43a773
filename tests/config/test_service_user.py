"""Files that root can read and the user of the service cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bgpd.config.load import ConfigError, load_config
from bgpd.config.service_user import name_of, uid_of, unreadable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = uid_of("nobody")
ROUTER = """
[router]
asn = 65203
router_id = "10.255.1.1"
"""
LEAF = """
[[neighbor]]
name = "{name}"
address = "{address}"
asn = 65201
import = "none"
password_file = "{file}"
"""


def with_leaf(file: object) -> str:
    return ROUTER + LEAF.format(name="leaf1", address="10.0.1.2", file=file)


def key(directory: Path, name: str, mode: int) -> str:
    path = directory / name
    path.write_text("secret\n")
    path.chmod(mode)
    return str(path)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where all users may look into, which tmp_path is not."""
    with TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_the_kernel_says_what_another_user_can_read(directory: Path) -> None:
    assert NOBODY is not None
    own, all_users = key(directory, "own", 0o600), key(directory, "all", 0o644)
    inner = directory / "inner"
    inner.mkdir(mode=0o700)
    hidden = key(inner, "key", 0o644)
    assert unreadable([own, all_users, hidden], NOBODY) == {own: "Permission denied", hidden: "Permission denied"}
    assert unreadable([own, all_users, hidden], 0) == {}
    assert (uid_of("no-such-user"), name_of(NOBODY), name_of(4_000_000)) == (None, "nobody", "4000000")


def test_check_as_the_service_user_refuses_what_only_root_can_read(directory: Path) -> None:
    own = key(directory, "own", 0o600)
    file = directory / "bgpd.toml"
    file.write_text(with_leaf(own))
    load_config(str(file))
    with pytest.raises(ConfigError, match="cannot be read by user nobody, as whom the daemon runs: Permission denied"):
        load_config(str(file), uid=NOBODY)
    os.chown(own, NOBODY or 0, -1)
    load_config(str(file), uid=NOBODY)


def test_reload_is_refused_where_a_session_would_end_for_a_password(directory: Path) -> None:
    file = directory / "bgpd.toml"
    file.write_text(with_leaf(key(directory, "old", 0o600)))
    former = load_config(str(file), running=True).config
    file.write_text(with_leaf(directory / "missing"))
    with pytest.raises(ConfigError, match="its sessions would have to begin anew with it"):
        load_config(str(file), running=True, former=former)
    leaf2 = LEAF.format(name="leaf2", address="10.0.2.2", file=directory / "missing")
    file.write_text(with_leaf(directory / "old") + leaf2)
    warnings = load_config(str(file), running=True, former=former).warnings
    assert any("missing" in str(warning) for warning in warnings)
