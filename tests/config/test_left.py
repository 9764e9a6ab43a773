"""The configuration that one process leaves to the next, which may be another version of bgpd."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.config.left import pack, unpack
from bgpd.config.load import Loaded, load_config

ROOT = Path(__file__).parents[2]
TEXT = """
[router]
asn = 65203
router_id = "10.255.1.1"

[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = 65201
import = "some"

[policy.some]
rules = [{ match = { prefix = ["10.0.0.0/8 le 32"] } }]
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "bgpd.toml").write_text(TEXT)
    return load_config(str(tmp_path / "bgpd.toml"))


def test_all_of_it_comes_back(loaded: Loaded) -> None:
    found = unpack(pack(loaded), ["bad"])
    assert found is not None
    assert found.errors == ("bad",)
    assert found.rules
    assert found._replace(errors=(), warnings=loaded.warnings) == loaded


def test_every_key_of_the_commented_configuration_comes_back() -> None:
    loaded = load_config(str(ROOT / "conf/bgpd.toml"), running=True)
    found = unpack(pack(loaded), ["bad"])
    assert found is not None
    assert found.config == loaded.config


@pytest.mark.parametrize("packed", [b"", b"\x01", b"\x81\xa1x\xc0"])
def test_what_is_no_configuration_is_none(packed: bytes) -> None:
    assert unpack(packed, ["bad"]) is None


def test_what_this_version_does_not_know_or_refuses_is_none(loaded: Loaded) -> None:
    fields = msgspec.msgpack.decode(pack(loaded))
    fields["config"]["router"]["nowhere"] = 1
    assert unpack(msgspec.msgpack.encode(fields), ["bad"]) is None
    del fields["config"]["router"]["nowhere"]
    assert unpack(msgspec.msgpack.encode(fields), ["bad"]) is not None
    fields["config"]["neighbor"][0]["import"] = "nowhere"
    assert unpack(msgspec.msgpack.encode(fields), ["bad"]) is None
