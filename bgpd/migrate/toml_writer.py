"""The text of a draft: TOML with a comment beside each value that says where it came from. Sans-IO.

Whatever stood in the files that were read cannot leave its comment or its string: control characters are replaced, or
escaped.
"""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.config.toml_lines import BARE_KEY
from bgpd.migrate.draft import Draft, Table, Value, Variable

_WIDTH = 118
_COMMENT_COLUMN = 34
_LONGEST_COMMENT = 400
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FIRST_KEYS = ("name", "prefix", "address", "interface", "asn", "import", "export")
"""What a person looks for first; the rest follows in the order of the schema."""
_SESSION_KEYS = dict.fromkeys((*NeighborConfig.__struct_encode_fields__, *ListenConfig.__struct_encode_fields__))
_KEYS = {key: index for index, key in enumerate(_SESSION_KEYS)}
_SECTIONS = {section: index for index, section in enumerate(Config.__struct_encode_fields__)}


def write_draft(draft: Draft) -> str:
    """The whole text, ending in a line feed."""
    blocks = ["\n".join(f"# {line}" if line else "#" for line in map(comment_text, draft.head))]
    tables = sorted(draft.tables, key=_rank)
    blocks += ["\n".join(_table_lines(table)) for table in tables]
    if draft.left_over:
        lines = ["# --- Not taken over ---", *(f"# {comment_text(line)}" for line in draft.left_over)]
        blocks.append("\n".join(lines))
    return "\n\n".join(block for block in blocks if block) + "\n"


def comment_text(text: str) -> str:
    """A text that can stand in a comment: one line, no control characters, of bearable length."""
    line = "".join(one if one.isprintable() else " " for one in text.strip())
    return line if len(line) <= _LONGEST_COMMENT else f"{line[: _LONGEST_COMMENT - 4]} ..."


def write_value(value: Value) -> str:
    """A value as TOML, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Variable():
            return _string(value)
        case str():
            return _string(value.replace("${", "$${"))
        case list():
            return f"[{', '.join(map(write_value, value))}]"
        case dict():
            inner = ", ".join(f"{_key(key)} = {write_value(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"


def _string(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    if "\ud800" <= one <= "\udfff":
        return "\\uFFFD"
    return one if one.isprintable() else f"\\U{ord(one):08X}"


def _key(text: str) -> str:
    return text if BARE_KEY.fullmatch(text) else _string(text)


def _rank(table: Table) -> int:
    return _SECTIONS.get(table.section.split(".")[0], len(_SECTIONS))


def _table_lines(table: Table) -> Iterator[str]:
    mark = "#" if table.is_proposal else ""
    yield from (f"# {comment_text(line)}" for line in table.above)
    if table.section == "policy":
        yield f"{mark}[policy.{_key(str(table.values['name']))}]"
    else:
        yield f"{mark}[[{table.section}]]" if table.is_list else f"{mark}[{table.section}]"
    entries = [(key, value, table.comments.get(key, ""), mark) for key, value in table.values.items()]
    entries += [(key, value, comment, "#") for key, (value, comment) in table.proposed.items()]
    for key, value, comment, own_mark in sorted(entries, key=lambda entry: _key_rank(entry[0])):
        if table.section != "policy" or key != "name":
            yield from (f"{own_mark}{line}" for line in _entry_lines(key, value, comment))


def _key_rank(key: str) -> tuple[int, int]:
    return (0, _FIRST_KEYS.index(key)) if key in _FIRST_KEYS else (1, _KEYS.get(key, 0))


def _entry_lines(key: str, value: Value, comment: str) -> Iterator[str]:
    line = f"{_key(key)} = {write_value(value)}"
    note = comment_text(comment)
    if isinstance(value, list) and value and (len(line) > _WIDTH or any(isinstance(one, dict) for one in value)):
        yield f"{_key(key)} = [{f'   # {note}' if note else ''}"
        yield from (f"  {write_value(one)}," for one in value)
        yield "]"
    elif note and max(len(line) + 1, _COMMENT_COLUMN) + len(note) + 2 <= _WIDTH:
        yield f"{line} ".ljust(_COMMENT_COLUMN) + f" # {note}"
    elif note:
        yield f"# {note}"
        yield line
    else:
        yield line
