"""Files with lines and words missing, doubled or changed: read as far as they make sense, or told; never a crash, and
never a configuration that `bgpd check` refuses.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.migrate.converting import FILES, config_of, imported, written

GIVEN = {
    "frr.conf": "frr",
    "bird.conf": "bird",
    "gobgpd.toml": "gobgp",
    "calico.yaml": "calico",
    "metallb.yaml": "metallb",
    "metallb-configmap.yaml": "metallb",
}
WORDS = (
    *("", "0", "-1", "9" * 20, '"', "{", "}", "[", "]", "'", "\\", "\x01", "ÿ", "neighbor", "permit", "any", "::/0"),
    *("1.2.3.4/33", "null", "*a", "&a", "65536", "4294967295", "!!set", "${env:HOME}", "a" * 40, "import", "filter"),
)
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "word", "cut"]), st.floats(0, 1), st.floats(0, 1), st.sampled_from(WORDS)
    ),
    min_size=1,
    max_size=4,
)


def damaged(text: str, damage: list[tuple[str, float, float, str]]) -> str:
    lines = text.split("\n")
    for kind, where, which, word in damage:
        at = min(int(where * len(lines)), len(lines) - 1)
        if kind == "drop":
            lines[at] = ""
        elif kind == "double":
            lines.insert(at, lines[min(int(which * len(lines)), len(lines) - 1)])
        elif kind == "cut":
            words = lines[at].split(" ")
            lines[at] = " ".join(words[: int(which * len(words))])
        else:
            words = lines[at].split(" ")
            words[min(int(which * len(words)), len(words) - 1)] = word
            lines[at] = " ".join(words)
    return "\n".join(lines)


@pytest.mark.parametrize("name", GIVEN)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE, node=st.sampled_from(["", "node7"]))
def test_damaged_file(name: str, damage: list[tuple[str, float, float, str]], node: str, tmp_path: Path) -> None:
    text = (FILES / name).read_text().replace('"bird.d/', f'"{FILES}/bird.d/')
    file = written(tmp_path, damaged(text, damage), name)
    with contextlib.suppress(ImportFailed):
        config_of(imported(GIVEN[name], file, settings=Settings(node=node)).text)
