"""What packages are made from: scripts that a shell takes, files that are there, an image as closed as it says."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.packages.built import ROOT
from tests.packages.image import instructions

PACKAGES = ROOT / "packages"
SCRIPTS = [
    PACKAGES / "build-deb",
    *(PACKAGES / "debian" / name for name in ("changelog", "preinst", "postinst", "prerm", "postrm")),
]
DOCKERFILES = [PACKAGES / "image/Dockerfile", ROOT / "labs/containerlab/Dockerfile"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shell_takes_each_script(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    first, *lines = script.read_text().splitlines()
    assert first == "#!/bin/sh"
    assert any(re.match(r"set -eu?$", line) for line in lines), "a failed step ends it"


def test_every_file_that_the_package_installs_is_there() -> None:
    script = (PACKAGES / "build-deb").read_text()
    named = re.findall(r"(?<![\w/])((?:conf|systemd)/[\w./-]+\w)", script)
    assert "conf/tmpfiles.d/bgpd.conf" in named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_no_file_beside_the_program_is_forgotten() -> None:
    """Of conf/ and systemd/ the package has all that `make install` has, and the examples."""
    script = (PACKAGES / "build-deb").read_text()
    for file in (*(ROOT / "conf").rglob("*"), *(ROOT / "systemd").glob("*.service")):
        name = str(file.relative_to(ROOT))
        if file.is_file():
            assert name in script or f"{Path(name).parent}/*" in script, f"{name} is not in the Debian package"


def test_configuration_of_a_new_installation_is_the_same_in_all_versions() -> None:
    """Where another version of the package has another one, dpkg asks on each server which to have."""
    digest = hashlib.sha256((ROOT / "conf/first.toml").read_bytes()).hexdigest()
    assert digest == "a37cd941a8621bf62037b29c2bae08ab6c6b909263e386355e87350483408487"
    for name in ("packages/build-deb", "packages/image/Dockerfile", "Makefile"):
        assert "conf/first.toml" in (ROOT / name).read_text(), name


def test_changelog_is_in_debian_s_form() -> None:
    command = [str(PACKAGES / "debian/changelog"), "1.2.3-1", "1700000000"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("bgpd (1.2.3-1) stable; urgency=medium\n\n  * ")
    assert " -- bgpd maintainers <maintainers@bgpd.example>  Tue, 14 Nov 2023 22:13:20 +0000\n" in said
    if shutil.which("dpkg-parsechangelog"):
        parse = ["dpkg-parsechangelog", "--all", "-l", "-"]
        done = subprocess.run(parse, input=said, capture_output=True, text=True, check=True)
        assert (done.stderr, "Version: 1.2.3-1\n" in done.stdout) == ("", True)


def taken(name: str) -> bool:
    """Whether .dockerignore lets a file of the repository into the build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    found = True
    for pattern in patterns:
        wanted = pattern.startswith("!")
        if fnmatch.fnmatch(name, pattern.lstrip("!")) or name.startswith(f"{pattern.lstrip('!')}/"):
            found = wanted
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_image_is_built_from_files_that_are_there_and_not_ignored(file: Path) -> None:
    for name, words in instructions(file.read_text()):
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert taken(source.removeprefix("./")), f".dockerignore keeps {source} out"
    assert not taken("tests/conftest.py")
    assert not taken(".git/config")


def test_image_is_pinned_and_runs_as_a_user_of_its_own() -> None:
    found = instructions((PACKAGES / "image/Dockerfile").read_text())
    for words in (words for name, words in found if name == "FROM"):
        assert re.match(r"debian:\d+\.\d+-slim( AS \w+)?$", words), "a base by its full version"
    last = [name for name, _ in found]
    assert ("USER", "179:179") in found, "as numbers, by which Kubernetes sees that it is not root"
    assert "RUN" not in last[last.index("USER") :], "nothing is done after it"
    for words in (words for name, words in found if name == "RUN" and "apt-get" in words):
        assert "--no-install-recommends" in words
        assert "rm -rf /var/lib/apt/lists/*" in words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.2.3", "1.2.3-1"),
        ("1.2.3rc1", "1.2.3~rc1-1"),
        ("1.2.3rc1.post2+g1b2", "1.2.3~rc1.post2+g1b2-1"),
        ("0.1.0.dev846+g01a2b3c4", "0.1.0~dev846+g01a2b3c4-1"),
    ],
)
def test_name_of_a_commit_is_no_pre_release(written: str, expected: str) -> None:
    command = [str(PACKAGES / "debian/changelog"), "--version", written]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{expected}\n"


def said_of(script: str, tmp_path: Path, *words: str) -> list[str]:
    """The commands that a script of the package gives to systemd, where that runs."""
    (tmp_path / "systemd").mkdir()
    for name in ("systemctl", "deb-systemd-invoke", "systemd-sysusers", "systemd-tmpfiles"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*"\nexit 1\n')
        (tmp_path / name).chmod(0o755)
    text = (PACKAGES / "debian" / script).read_text().replace("/run/systemd/system", str(tmp_path / "systemd"))
    command = ["sh", "-c", text, script, *words]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_removal_that_is_called_off_starts_what_it_has_stopped(tmp_path: Path) -> None:
    """As where a package that conflicts cannot be unpacked. No start that fails keeps dpkg from going on."""
    assert said_of("postinst", tmp_path, "abort-remove", "in-favour", "openbgpd", "7.7") == [
        "deb-systemd-invoke start bgpd-bfd.service",
        "deb-systemd-invoke start bgpd.service",
    ]


@pytest.mark.parametrize("action", ["abort-upgrade", "abort-deconfigure"])
def test_upgrade_that_is_called_off_touches_no_service(tmp_path: Path, action: str) -> None:
    assert said_of("postinst", tmp_path, action, "1.0-1") == []


def test_role_writes_only_what_was_checked() -> None:
    tasks = yaml.safe_load((PACKAGES / "ansible/roles/bgpd/tasks/main.yml").read_text())
    (checked,) = (index for index, task in enumerate(tasks) if task.get("ansible.builtin.import_tasks") == "next.yml")
    copies = [
        (index, str(task["ansible.builtin.copy"]["dest"]))
        for index, task in enumerate(tasks)
        if "ansible.builtin.copy" in task
    ]
    written = [index for index, to in copies if to.endswith(".toml")]
    assert len(written) == 2
    assert checked < min(written)


def test_role_checks_a_copy_also_of_what_links_lead_to(tmp_path: Path) -> None:
    """New fragments were written through a link, before they were checked."""
    (tasks,) = yaml.safe_load((PACKAGES / "ansible/roles/bgpd/tasks/next.yml").read_text())
    (command,) = (task["ansible.builtin.command"] for task in tasks["block"] if task["name"] == "Take what is there")
    for name in ("etc", "elsewhere", "next"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere/pods.toml").write_text("")
    (tmp_path / "etc/conf.d").symlink_to("../elsewhere")
    (tmp_path / "etc/bgpd.toml").symlink_to("../elsewhere/pods.toml")
    here = command.replace("/etc/bgpd", str(tmp_path / "etc")).replace("{{ bgpd_next.path }}", str(tmp_path / "next"))
    subprocess.run(shlex.split(here), check=True)
    found = [tmp_path / "next" / name for name in ("bgpd.toml", "conf.d", "conf.d/pods.toml")]
    assert [(one.exists(), one.is_symlink()) for one in found] == [(True, False)] * 3


def test_role_makes_kernel_settings_before_it_starts_the_daemon() -> None:
    tasks = yaml.safe_load((PACKAGES / "ansible/roles/bgpd/tasks/main.yml").read_text())
    notifies = [index for index, task in enumerate(tasks) if task.get("notify") == "Apply kernel settings"]
    (flush,) = (index for index, task in enumerate(tasks) if task.get("ansible.builtin.meta") == "flush_handlers")
    reloads = [index for index, task in enumerate(tasks) if task.get("notify") == "Reload bgpd"]
    assert max(notifies) < flush < min(reloads), "a new configuration is checked before it is read"
