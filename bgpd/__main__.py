"""Where the command line meets the parts that it may not import: the daemon and the decoder.

Each is imported only when its command runs.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bgpd.cli.decode import DecodeOptions, Hooks
from bgpd.cli.main import main as run_command

if TYPE_CHECKING:
    from bgpd.config.load import Loaded
    from bgpd.config.schema import Config
    from bgpd.inheritance import Inheritance


class _Start:
    """A start of the daemon: first it takes over what another process has left, then it reads and imports the rest."""

    left: Inheritance

    def take_over(self) -> None:
        from bgpd.runtime.systemd import begin_start

        begin_start()
        gc.disable()  # imports make no garbage, and looking for it takes a tenth of the start; see runtime/memory.py
        from bgpd.inheritance import find
        from bgpd.runtime.memory import keep_little_memory

        keep_little_memory()
        self.left = find()

    def left_configuration(self, errors: Sequence[str]) -> Loaded | None:
        from bgpd.config.left import unpack

        return unpack(self.left.configuration, errors)

    def run(self, loaded: Loaded, file: str, warnings: Sequence[str]) -> int:
        from bgpd.daemon import run

        return run(loaded, file, left=self.left, warnings=warnings)


def _import_daemon() -> None:
    import bgpd.api.server
    import bgpd.daemon
    import bgpd.kernel.rtnl
    from bgpd.message.exabgp_codec import load

    load()
    assert callable(bgpd.daemon.run)


def _flush(config: Config) -> str:
    from bgpd.cli.client import CommandFailed
    from bgpd.flush import FlushFailed, flush

    try:
        return flush(config)
    except FlushFailed as error:
        raise CommandFailed(str(error)) from error


def _report_message(text: str, options: DecodeOptions) -> bytes:
    import msgspec

    from bgpd.message.evpn_nlri import EvpnNlri
    from bgpd.message.nlri import RouteTargetNlri
    from bgpd.message.report import report_message
    from bgpd.model.iana import Family
    from bgpd.model.wire import NlriDecoders

    decoders: NlriDecoders = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}
    return msgspec.json.encode(report_message(text, nlri_decoders=decoders, **options._asdict()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `bgpd`."""
    start = _Start()
    hooks = Hooks(
        take_over=start.take_over,
        run_daemon=start.run,
        import_daemon=_import_daemon,
        report_message=_report_message,
        flush=_flush,
        left_configuration=start.left_configuration,
    )
    return run_command(arguments, hooks)


if __name__ == "__main__":
    sys.exit(main())
