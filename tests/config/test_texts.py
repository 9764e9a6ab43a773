"""The files that are one configuration: what is read, in which order, and what is said of one that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgpd.config import texts
from bgpd.config.load import ConfigError, Loaded, load_config
from bgpd.config.texts import read_texts

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
LEAF = '[[neighbor]]\nname = "NAME"\naddress = "ADDRESS"\nasn = 65201\nimport = "none"\n'
NOBODY = 65534


def leaf(number: int) -> str:
    return LEAF.replace("NAME", f"leaf{number}").replace("ADDRESS", f"10.0.{number}.2")


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    file = tmp_path / "bgpd.toml"
    file.write_text(ROUTER + leaf(0))
    return file


def fragment(main: Path, name: str, text: str) -> Path:
    file = main.parent / "conf.d" / name
    file.write_text(text)
    return file


def names(loaded: Loaded) -> list[str]:
    return [neighbor.name for neighbor in loaded.config.neighbor]


def said(main: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(str(main))
    return [str(problem).removeprefix(f"{main.parent}/") for problem in caught.value.problems]


def test_fragments_are_merged_in_the_order_of_their_names(main: Path) -> None:
    fragment(main, "20-b.toml", leaf(2))
    fragment(main, "10-z.toml", leaf(1) + "[fib]\nmetric = 18\n")
    fragment(main, "3.toml", leaf(3))
    for other in (".hidden.toml", "x.toml~", "x.toml.rpmsave", "README"):
        fragment(main, other, "no TOML")
    loaded = load_config(str(main))
    assert names(loaded) == ["leaf0", "leaf1", "leaf2", "leaf3"]
    assert loaded.config.fib.metric == 18
    assert [Path(file).name for file in loaded.files] == ["bgpd.toml", "10-z.toml", "20-b.toml", "3.toml"]


def test_without_fragments_nothing_is_different(tmp_path: Path) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_text(ROUTER + leaf(0))
    assert load_config(str(file)).files == (str(file),)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "empty.toml").write_text("")
    (tmp_path / "conf.d" / "comment.toml").write_text("# ${nothing} here\n")
    assert names(load_config(str(file))) == ["leaf0"]


def test_errors_of_all_files_are_told_with_their_file_and_line(main: Path) -> None:
    fragment(main, "a.toml", "\n[fib\n")
    fragment(main, "b.toml", "metric = \n")
    (main.parent / "conf.d" / "c.toml").write_bytes(b"# \xff\n")
    first, second, third = said(main)
    assert first.startswith("conf.d/c.toml:1: is not UTF-8 text")
    assert second.startswith("conf.d/a.toml:2: is not valid TOML")
    assert third.startswith("conf.d/b.toml:1: is not valid TOML")


def test_a_value_that_is_wrong_is_told_where_it_stands(main: Path) -> None:
    fragment(main, "a.toml", leaf(1) + "\n[fib]\nmetric = 0\n")
    fragment(main, "b.toml", leaf(2).replace("10.0.2.2", "10.0.2.0/24") + "hold_time_s = 2\nnonsense = 1\n")
    found = said(main)
    assert [line.partition(" is ")[0].partition("; ")[0] for line in found] == [
        "conf.d/a.toml:8: fib.metric:",
        'conf.d/b.toml:3: neighbor[2].address: "10.0.2.0/24"',
        "conf.d/b.toml:6: neighbor[2].hold_time_s:",
        'conf.d/b.toml:7: neighbor[2].nonsense: unknown key "nonsense"',
    ]


def test_two_fragments_with_the_same_neighbor_are_both_named(main: Path) -> None:
    fragment(main, "a.toml", leaf(1))
    fragment(main, "b.toml", "\n" + leaf(1).replace("10.0.1.2", "10.0.7.2"))
    (problem,) = said(main)
    assert problem.startswith('conf.d/b.toml:3: neighbor[2].name: "leaf1" is already the name of neighbor[1] (')
    assert f"({main.parent}/conf.d/a.toml:1)" in problem


@pytest.mark.parametrize(
    ("first", "second", "path", "place", "other"),
    [
        ("[fib]\nmetric = 18\n", "[fib]\n\nmetric = 18\n", "fib.metric", 3, 2),
        ("fib.metric = 18\n", "[fib]\nmetric = 19\n", "fib.metric", 2, 1),
        ("fib = 1\n", "[fib]\nmetric = 19\n", "fib", 1, 1),
        ("[fib]\nprotect = []\n", '[fib]\nprotect = ["10.0.0.0/8"]\n', "fib.protect", 2, 2),
        ("neighbor = []\n", leaf(9), "neighbor", 1, 1),
        (
            '[policy.p]\nrules = [{ action = "accept" }]\n',
            '[policy.p]\nrules = [{ action = "reject" }]\n',
            "policy.p.rules",
            2,
            2,
        ),
    ],
)
def test_a_key_in_two_files_is_an_error_that_names_both(
    tmp_path: Path, first: str, second: str, path: str, place: int, other: int
) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_text(ROUTER)
    (tmp_path / "conf.d").mkdir()
    fragment(file, "1.toml", first)
    fragment(file, "2.toml", second)
    (problem,) = said(file)
    assert problem.startswith(f"conf.d/2.toml:{place}: {path}: is already in {tmp_path}/conf.d/1.toml:{other}; remove")


def test_lists_of_tables_within_tables_are_put_together_and_keep_their_places(main: Path) -> None:
    static = '[[workload.static]]\nprefix = "PREFIX"\ninterface = "pod0"\n'
    fragment(main, "1.toml", static.replace("PREFIX", "10.64.1.1/32") + '[[policy.p.rules]]\naction = "next"\n')
    fragment(main, "2.toml", static.replace("PREFIX", "10.64.1.2/32") + '[[policy.p.rules]]\naction = "accept"\n')
    config = load_config(str(main)).config
    assert [one.prefix for one in config.workload.static] == ["10.64.1.1/32", "10.64.1.2/32"]
    assert [rule.action for rule in config.policy["p"].rules] == ["next", "accept"]
    fragment(main, "3.toml", "\n" + static.replace("PREFIX", "10.64.1.2/33"))
    assert said(main)[0].startswith("conf.d/3.toml:3: workload.static[2].prefix: ")


def test_what_is_no_file_is_told(main: Path) -> None:
    directory = main.parent / "conf.d"
    (directory / "a.toml").mkdir()
    (directory / "b.toml").symlink_to("/nonexistent/b.toml")
    os.mkfifo(directory / "c.toml")
    (directory / "d.toml").symlink_to("d.toml")
    (directory / "e.toml").symlink_to("/dev/zero")
    first, second, third, fourth, fifth = said(main)
    assert first.startswith("conf.d/a.toml: is a directory; ")
    assert second.startswith("conf.d/b.toml: cannot be read: No such file or directory; it is a link to /nonexistent/")
    assert third.startswith("conf.d/c.toml: is not a regular file")
    assert fourth.startswith("conf.d/d.toml: cannot be read: Too many levels")
    assert fifth.startswith("conf.d/e.toml: is not a regular file")


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bgpd.toml"
    file.write_text(ROUTER)
    (tmp_path / "conf.d").write_text("")
    assert said(file)[0].startswith("conf.d: cannot be read: Not a directory; ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_what_the_user_may_not_read_is_told_and_changes_nothing(main: Path) -> None:
    secret = fragment(main, "a.toml", leaf(1))
    for directory in list(main.parents)[:-2]:  # all below /tmp
        directory.chmod(0o755)
    secret.chmod(0o600)
    denied = "cannot be read: Permission denied; it must be readable"
    assert said_to_nobody(main).startswith(f"conf.d/a.toml: {denied}")
    secret.parent.chmod(0o700)
    assert said_to_nobody(main).startswith(f"conf.d: {denied}")
    assert said_to_nobody(main).endswith("chmod 750")
    main.parent.chmod(0o600)
    assert f"; {main.parent} must be readable by the user that bgpd runs as: " in said_to_nobody(main)


def said_to_nobody(file: Path) -> str:
    """What another user is told first. In a child: a process with threads cannot change its user for a moment."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.seteuid(NOBODY)
            os.write(writing, said(file)[0].encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_files_of_too_many_bytes_are_refused_before_they_are_parsed(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MOST_BYTES", 1 << 20)
    fragment(main, "a.toml", "# " + "x" * (1 << 19) + "\n")
    fragment(main, "b.toml", "# " + "x" * (1 << 19) + "\n")
    (problem,) = said(main)
    assert problem == "conf.d/b.toml: is too large: the files of a configuration have at most 1 MiB together"
    monkeypatch.setattr(texts, "MOST_FRAGMENTS", 1)
    assert said(main) == ["conf.d: has 2 fragments; at most 1"]


def test_a_fragment_that_is_renamed_while_it_is_read_is_not_lost(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fragment(main, "a.toml", leaf(1))
    fragment(main, "b.toml", leaf(2))
    plain = texts.list_fragments
    moves = iter(["a.toml"])

    def listed(directory: str) -> list[str]:
        found = plain(directory)
        if name := next(moves, ""):
            (Path(directory) / name).rename(Path(directory) / f"{name[0]}{name}")
        return found

    monkeypatch.setattr(texts, "list_fragments", listed)
    found, unusable = read_texts(str(main))
    assert unusable == []
    assert [Path(one.file).name for one in found] == ["bgpd.toml", "aa.toml", "b.toml"]


def test_files_that_never_stay_are_told(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, count = texts.list_fragments, iter(range(100))

    def listed(directory: str) -> list[str]:
        fragment(main, "a.toml", "#" * next(count))
        return plain(directory)

    monkeypatch.setattr(texts, "list_fragments", listed)
    (problem,) = said(main)
    assert problem.startswith("conf.d: changes while it is read, 5 times in a row")


def test_a_fragment_whose_name_is_no_utf_8_is_said(main: Path) -> None:
    fragment(main, "caf\udce9.toml", leaf(1))
    assert said(main) == ["conf.d/caf\\udce9.toml: has a name that is not UTF-8; give it another name"]
