"""`bgpd demo`: a network of four bgpd on this machine, shown and left to try."""

from __future__ import annotations

import argparse
import sys

from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.demo.namespaces import StepFailed
from bgpd.demo.story import show, tell


def demo(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """Needs root. Raises: CommandFailed: a step failed, with what to do."""
    try:
        tell(show, prompt=arguments.prompt and sys.stdin.isatty())
    except StepFailed as failed:
        raise CommandFailed(str(failed), failed.hint) from None
    return 0
