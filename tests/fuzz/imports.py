"""Targets: the configurations of other programs, which `bgpd import` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bgpd.migrate import (
    bird,
    bird_channels,
    bird_filter,
    bird_sessions,
    bird_text,
    calico,
    calico_filters,
    calico_selector,
    frr,
    frr_peers,
    frr_policy,
    frr_sessions,
    frr_text,
    gobgp,
    gobgp_policy,
    metallb,
    metallb_old,
    yaml_documents,
)
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.fuzz.target import Target, directory
from tests.migrate.converting import FILES, config_of, imported

GIVEN = {
    "frr": ("frr.conf",),
    "bird": ("bird.conf",),
    "gobgp": ("gobgpd.toml", "gobgpd.yaml"),
    "calico": ("calico.yaml",),
    "metallb": ("metallb.yaml", "metallb-configmap.yaml"),
}


def _run(kind: str, data: bytes) -> None:
    """A file is converted to a configuration that `bgpd check` takes, or the reason is told. What does not fit is left
    out: only a router's AS number that is none leaves nothing that could be used.
    """
    suffix = GIVEN[kind][0].rpartition(".")[2]
    if kind == "gobgp" and not data.lstrip().startswith(b"["):
        suffix = "yaml"
    path = directory() / f"given.{suffix}"
    path.write_bytes(data)
    try:
        config_of(imported(kind, path, settings=Settings(node="node7")).text)
    except ImportFailed as error:
        if "cannot be used" in str(error) and "router.asn" not in str(error):
            raise


def _seeds(kind: str) -> Iterator[bytes]:
    for name in GIVEN[kind]:
        yield (FILES / name).read_bytes()


def _target(kind: str) -> Target:
    run: Callable[[bytes], None] = partial(_run, kind)
    return Target(run, READ[kind], partial(_seeds, kind), messages=10)


READ: dict[str, tuple[object, ...]] = {
    "frr": (frr, frr_text, frr_sessions, frr_policy, frr_peers),
    "bird": (bird, bird_text, bird_sessions, bird_channels, bird_filter),
    "gobgp": (gobgp, gobgp_policy, yaml_documents),
    "calico": (calico, calico_filters, calico_selector, yaml_documents),
    "metallb": (metallb, metallb_old, yaml_documents),
}
TARGETS = {f"import-{kind}": _target(kind) for kind in GIVEN}
