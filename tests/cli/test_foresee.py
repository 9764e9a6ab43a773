"""What `bgpd what-if --reload` sends of a configuration."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.api.http_connection import MAX_BODY_BYTES
from bgpd.cli.foresee import without_defaults
from bgpd.config.load import parse_config
from bgpd.config.schema import Config

ROOT = Path(__file__).parent.parent.parent
NEIGHBOR = '[[neighbor]]\nname = "n{0}"\naddress = "10.1.{1}.{2}"\nasn = 65002\nimport = "all"\n'


@pytest.mark.parametrize("file", ["labs/containerlab/evpn/host1/bgpd.toml", "labs/containerlab/guests/host/bgpd.toml"])
def test_it_says_all_that_is_in_the_file(file: str) -> None:
    config, _ = parse_config((ROOT / file).read_text(), file)
    sent = msgspec.json.encode(without_defaults(config))
    assert msgspec.json.decode(sent, type=Config) == config


def test_a_thousand_neighbors_go_into_one_request() -> None:
    """It was refused, by 413: each neighbor had 700 bytes."""
    text = '[router]\nasn = 65001\nrouter_id = "10.255.0.1"\n'
    text += "".join(NEIGHBOR.format(number, *divmod(number, 250)) for number in range(1, 1001))
    config, _ = parse_config(text, "bgpd.toml")
    sent = msgspec.json.encode(without_defaults(config))
    assert len(sent) < MAX_BODY_BYTES < len(msgspec.json.encode(config))
    assert msgspec.json.decode(sent, type=Config) == config
