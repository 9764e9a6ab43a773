"""`bgpd init` and `bgpd import`: what it writes where, with which rights, and its exit codes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_main import run
from tests.migrate.converting import FILES

REPOSITORY = Path(__file__).parent.parent.parent
FRR = str(FILES / "frr.conf")


def test_import_writes_a_configuration_that_check_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bgpd.toml"
    assert run("import", "frr", FRR, "--output", str(output)) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{FRR}:58: " in told.err
    assert f"{output} is written" in told.err
    assert run("check", str(output), "--user", "root") == 0
    key = tmp_path / "swp1.key"
    assert key.read_text() == "uplink-S3cret\n"
    assert not stat.S_IMODE(key.stat().st_mode) & 0o027, "others can read a password"
    assert f'password_file = "{key}"' in output.read_text()


def test_import_to_standard_output_writes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("import", "frr", FRR) == 0
    told = capsys.readouterr()
    assert told.out.startswith("# Converted from the FRR configuration")
    assert "uplink-S3cret" not in told.out + told.err
    assert list(tmp_path.iterdir()) == []


def test_configuration_of_a_new_installation_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no settings; what has one, or is a link, is somebody's."""
    output, link = tmp_path / "bgpd.toml", tmp_path / "link.toml"
    shutil.copy(REPOSITORY / "conf/first.toml", output)
    link.symlink_to(output)
    assert run("check", str(output)) == 1
    assert "has no settings yet; bgpd init --output FILE writes the first ones" in capsys.readouterr().err
    assert run("import", "frr", FRR, "--output", str(link)) == 1
    assert run("import", "frr", FRR, "--output", str(output)) == 0
    assert "[router]" in output.read_text()
    assert run("import", "frr", FRR, "--output", str(output)) == 1


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, key = tmp_path / "bgpd.toml", tmp_path / "swp1.key"
    output.write_text("mine")
    assert run("import", "frr", FRR, "--output", str(output)) == 1
    assert "is there already\nname another file, or add --force" in capsys.readouterr().err
    assert output.read_text() == "mine"
    output.unlink()
    key.write_text("mine")
    assert run("import", "frr", FRR, "--output", str(output)) == 1
    assert key.read_text() == "mine"
    assert not output.exists()
    key.chmod(0o644)
    assert run("import", "frr", FRR, "--output", str(output), "--force") == 0
    assert key.read_text() == "uplink-S3cret\n"
    assert not stat.S_IMODE(key.stat().st_mode) & 0o027


@pytest.mark.parametrize("is_there", [True, False])
def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path: Path, is_there: bool) -> None:
    """The disk is full, say: --force must not have emptied the configuration and the passwords by then."""
    output, key = tmp_path / "bgpd.toml", tmp_path / "swp1.key"
    if is_there:
        output.write_text("mine")
        output.chmod(0o604)
        key.write_text("mine")
    limited = ["prlimit", "--fsize=3", sys.executable, "-m", "bgpd"]
    for command in (("import", "frr", FRR), ("init", "--listen", "0")):
        words = [*limited, *command, "--output", str(output), *["--force"] * is_there]
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert (done.returncode, "cannot be written: File too large" in done.stderr) == (1, True), done.stderr
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == ({"bgpd.toml": "mine", "swp1.key": "mine"} if is_there else {})
    if is_there:
        assert run("init", "--listen", "0", "--output", str(output), "--force") == 0
        assert stat.S_IMODE(output.stat().st_mode) == 0o604


def test_a_link_in_place_of_a_password_file_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "swp1.key").symlink_to(elsewhere)
    assert run("import", "frr", FRR, "--output", str(tmp_path / "bgpd.toml"), "--force") == 1
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("import", "frr", "/nowhere/frr.conf"), 1, "/nowhere/frr.conf: cannot be read: No such file"),
        (("import", "frr", "/"), 1, "/: is not a regular file"),
        (("import", "frr", "/dev/zero"), 1, "/dev/zero: is not a regular file"),
        (("import", "frr", "/dev/null"), 1, "/dev/null: is not a regular file"),
        (("import", "calico", FRR), 1, f"{FRR}:"),
        (("import", "bird", FRR), 1, f"{FRR}:"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    assert said in capsys.readouterr().err


def test_an_unknown_format_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("import", "fr", FRR)
    assert ended.value.code == 2
    assert "did you mean frr?" in capsys.readouterr().err


def test_init_writes_what_check_accepts_and_keeps_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bgpd.toml"
    assert run("init", "--listen", "0", "--output", str(output)) == 0
    assert f"{output} is written" in capsys.readouterr().err
    assert run("check", str(output), "--user", "root") == 0
    before = output.read_text()
    assert run("init", "--listen", "0", "--output", str(output)) == 1
    assert output.read_text() == before


def test_init_without_rights_says_what_it_could_not_see() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can give rights up, by setpriv")
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command = [*without, sys.executable, "-m", "bgpd", "init", "--listen", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not seen: router advertisements: CAP_NET_RAW is missing" in done.stderr
    assert done.stdout.startswith("# Written by bgpd init")
