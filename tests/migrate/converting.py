"""Files of other programs, converted and read back as `bgpd` reads its configuration."""

from __future__ import annotations

from pathlib import Path

from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.config.schema_policies import RuleConfig
from bgpd.migrate.importing import Imported, Settings, convert

FILES = Path(__file__).parent / "files"


def imported(kind: str, *files: str | Path, settings: Settings | None = None) -> Imported:
    """What `bgpd import` writes and tells of files, those of this folder by their name."""
    paths = [str(FILES / file) if isinstance(file, str) else str(file) for file in files]
    return convert(kind, paths, settings or Settings())


def config_of(text: str) -> Config:
    """The configuration as the daemon reads it on a host with a loopback. Raises: ConfigError."""
    return parse_config(text.replace("${loopback4}", "192.0.2.1"), "written.toml")[0]


def configured(kind: str, *files: str | Path, settings: Settings | None = None) -> Config:
    """The configuration that files come to."""
    return config_of(imported(kind, *files, settings=settings).text)


def written(directory: Path, text: str, name: str = "given.conf") -> Path:
    """A file with this text."""
    file = directory / name
    file.write_text(text)
    return file


def rules_of(config: Config, name: str) -> tuple[RuleConfig, ...]:
    """The rules of a policy."""
    return config.policy[name].rules
