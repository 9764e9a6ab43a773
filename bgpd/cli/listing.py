"""How a listing is written: as a table, as JSON, or as CSV (RFC 4180)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from bgpd.cli.client import WrongUsage
from bgpd.cli.render import Table, View, printable
from bgpd.cli.tables import SHOWN, Shown


class Writer(Protocol):
    """Writes views as they come."""

    def write(self, views: Sequence[View]) -> None:
        """Put these views out."""

    def end(self) -> bool:
        """There are no more; whether there were any."""
        ...


def form_of(arguments: argparse.Namespace) -> str:
    """ "table", "json" or "csv". Raises: WrongUsage: they do not go together."""
    form = arguments.format or ("json" if arguments.json else "table")
    if arguments.json and form != "json":
        raise WrongUsage(f"--json and --format {form} are given", "leave one out")
    if arguments.fields and form == "table":
        raise WrongUsage(
            "--fields is about JSON and CSV", f"add --format csv or --json: --fields {arguments.fields[0]}"
        )
    return form


def writer(kind: str, form: str, fields: Sequence[str] | None, at: float | None = None) -> Writer:
    """What writes the views of `bgpd show KIND`, as of `at`, or of now. Raises: WrongUsage: they have no such field."""
    if form == "table":
        return TableWriter(SHOWN[kind], at)
    known = names_of_fields(kind, form)
    for name in fields or ():
        if name not in known:
            import difflib  # for mistakes only

            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"
            raise WrongUsage(f'{kind} have no field "{name}"', hint)
    return CsvWriter(fields or known, SHOWN[kind].rows_of) if form == "csv" else JsonWriter(fields)


def names_of_fields(kind: str, form: str) -> list[str]:
    """The fields of a view in JSON, or the columns in CSV, where a list makes rows: "candidates.next_hop"."""
    import typing

    import msgspec

    from bgpd.cli.schemas import SCHEMAS

    (view,) = typing.get_args(SCHEMAS[kind])
    found = []
    for field in msgspec.structs.fields(view):
        if form == "csv" and field.name == SHOWN[kind].rows_of:
            (inner,) = typing.get_args(field.type)
            found += [f"{field.name}.{one.encode_name}" for one in msgspec.structs.fields(inner)]
        else:
            found.append(field.encode_name)
    return found


class TableWriter:
    """For people. How long something is so is counted up to `at`, or up to now."""

    def __init__(self, shown: Shown, at: float | None = None) -> None:
        self._table = Table(shown.columns, sys.stdout)
        self._rows = shown.rows
        self._at = at

    def write(self, views: Sequence[View]) -> None:
        now = time.time() if self._at is None else self._at
        self._table.write([row for view in views for row in self._rows(view, now)])

    def end(self) -> bool:
        self._table.end()
        return not self._table.is_empty


class JsonWriter:
    """An array with a view on each line, as the API answers."""

    def __init__(self, fields: Sequence[str] | None) -> None:
        self._fields = fields
        self._is_first = True

    def write(self, views: Sequence[View]) -> None:
        for view in views:
            chosen = view if self._fields is None else {name: view.get(name) for name in self._fields}
            sys.stdout.write(f"{'[' if self._is_first else ','}\n{json.dumps(chosen)}")
            self._is_first = False

    def end(self) -> bool:
        sys.stdout.write("[]\n" if self._is_first else "\n]\n")
        return not self._is_first


class CsvWriter:
    """RFC 4180: a header, lines that end with CR LF, quotes where they are needed.

    `rows_of` names a list of objects of which each makes a row, with the fields of its view repeated. Other lists and
    objects are JSON in their cell; null is an empty one.
    """

    def __init__(self, columns: Sequence[str], rows_of: str) -> None:
        import csv

        self._columns = columns
        self._rows_of = rows_of
        self._writer = csv.writer(sys.stdout)
        self._is_terminal = sys.stdout.isatty()
        self._is_empty = True
        self._writer.writerow(columns)

    def write(self, views: Sequence[View]) -> None:
        for view in views:
            self._is_empty = False
            for row in self._rows(view):
                self._writer.writerow([self._cell(row.get(name)) for name in self._columns])

    def end(self) -> bool:
        return not self._is_empty

    def _rows(self, view: View) -> Iterable[View]:
        if not self._rows_of:
            return (view,)
        inner: Sequence[View] = view.get(self._rows_of) or ({},)
        return ({**view, **{f"{self._rows_of}.{name}": value for name, value in one.items()}} for one in inner)

    def _cell(self, value: Any) -> str:
        match value:
            case None:
                return ""
            case str():
                return printable(value) if self._is_terminal else value
            case bool() | list() | dict():
                return json.dumps(value)
        return str(value)
