"""Options of `bgpd mrt` and `bgpd replay`."""

from __future__ import annotations

from bgpd.cli.moments import span_s
from bgpd.cli.options import json_option, number, only_json_option
from bgpd.cli.parser import Parser


def mrt_options(parser: Parser) -> None:
    """`bgpd mrt`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    dump = actions.add_parser("dump", help="write the daemon's routes to a file")
    dump.set_defaults(runs="bgpd.cli.mrt:dump")
    dump.add_argument("file", metavar="FILE", help='"-" is standard output')
    dump.add_argument("--vrf", metavar="VRF", default="", help="its routes; default: those of the main table")
    json_option(dump)
    show = actions.add_parser("show", help="print what a file has")
    show.set_defaults(runs="bgpd.cli.mrt:show")
    show.add_argument("file", metavar="FILE", help='may be packed by gzip, bzip2 or xz; "-" is standard input')
    show.add_argument("--json", action="store_true", help="all that bgpd's decoder makes of it")


def replay_options(parser: Parser) -> None:
    """`bgpd replay`."""
    parser.add_argument(
        "file", metavar="FILE", help='MRT file; may be packed by gzip, bzip2 or xz; "-" is standard input'
    )
    parser.add_argument("--to", metavar="ADDRESS", required=True, help="the BGP speaker; no other is spoken to")
    parser.add_argument("--asn", metavar="ASN", type=_asn, required=True, help="the AS that it takes the routes from")
    parser.add_argument("--port", metavar="PORT", type=_port, default=179, help="default: 179")
    parser.add_argument("--source", metavar="ADDRESS", default="", help="the address of this side")
    parser.add_argument("--next-hop4", metavar="ADDRESS", default="", help="of IPv4 routes; default: this side's")
    parser.add_argument("--next-hop6", metavar="ADDRESS", default="", help="of IPv6 routes; default: this side's")
    parser.add_argument("--rate", metavar="N", type=_rate, default=1000, help="UPDATEs a second; default: 1000")
    parser.add_argument("--stay", metavar="TIME", type=span_s, help="how long it stays after that; default: for good")
    only_json_option(parser)


def _asn(text: str) -> int:
    return number(text, 1, 2**32 - 1)


def _port(text: str) -> int:
    return number(text, 1, 65_535)


def _rate(text: str) -> int:
    return number(text, 1, 100_000)
