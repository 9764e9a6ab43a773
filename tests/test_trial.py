"""A configuration on trial: when it goes back, and what a process starts with meanwhile."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.config.load import Loaded
from bgpd.config.schema import ApiConfig, Config, RouterConfig
from bgpd.config.schema_policies import PolicyConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.model.identity import Chosen, Identity, Origin
from bgpd.model.views.host import ConfigurationView
from bgpd.trial import NAME, Trial

GOOD = Config(router=RouterConfig(asn=65203, router_id="10.255.1.1"))
BAD = msgspec.structs.replace(
    GOOD,
    neighbor=(NeighborConfig(name="leaf1", address="10.0.1.2", asn="external", import_="p"),),
    policy={"p": PolicyConfig(rules=())},
)
WORSE = msgspec.structs.replace(BAD, policy={})


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0
        self.boot = "one"

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trial(directory: Path, clock: Clock) -> Trial:
    return Trial(str(directory), file="bgpd.toml", clock=clock, boot_clock=clock, boot_id=lambda: clock.boot)


def set_clock(directory: Path, clock: Clock, seconds: float, *, boots: bool = False) -> Trial:
    """A process that starts with another wall clock, after a start of the host if it `boots`."""
    wall = Clock()
    wall.time = clock.time + seconds
    boot = "two" if boots else clock.boot
    return Trial(str(directory), file="bgpd.toml", clock=wall, boot_clock=clock, boot_id=lambda: boot)


def loaded(config: Config) -> Loaded:
    chosen = Identity(router_id=Chosen(value="10.255.1.1", origin=Origin.LOOPBACK, of="10.255.1.1"))
    return Loaded(config, [], ("bgpd.toml", "conf.d/tried.toml"), {}, chosen)


def starts_with(tried: Trial, config: Config) -> Config:
    return tried.at_start(loaded(config)).config


def went_back(tried: Trial) -> Config | None:
    found = tried.go_back(loaded(BAD))
    return None if found is None else found.config


def test_without_confirmation_it_goes_back(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    assert (tried.left_s, tried.warnings()) == (None, [])
    tried.begin(BAD, GOOD, 60)
    clock.time += 20
    assert tried.left_s == 40
    assert "on trial" in tried.warnings()[0]
    clock.time += 41
    assert tried.left_s == 0
    assert went_back(tried) == GOOD
    assert (tried.left_s, tried.until) == (None, None)
    assert "not in force" in tried.warnings()[0]


def test_confirmed_is_as_if_it_had_never_been_tried(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60)
    assert tried.confirm()
    assert not tried.confirm()
    assert list(tmp_path.iterdir()) == []
    assert starts_with(trial(tmp_path, clock), BAD) == BAD


@pytest.mark.parametrize(("passed_s", "found"), [(10, BAD), (60, GOOD), (3600, GOOD)])
def test_a_process_that_starts_meanwhile_goes_on_with_the_trial(
    tmp_path: Path, clock: Clock, passed_s: int, found: Config
) -> None:
    trial(tmp_path, clock).begin(BAD, GOOD, 60)
    clock.time += passed_s
    later = trial(tmp_path, clock)
    assert starts_with(later, BAD) == found
    assert later.left_s == (50 if passed_s == 10 else None)


def test_what_was_taken_back_stays_so_until_the_file_changes_or_is_reloaded(tmp_path: Path, clock: Clock) -> None:
    first = trial(tmp_path, clock)
    first.begin(BAD, GOOD, 60)
    went_back(first)
    assert starts_with(trial(tmp_path, clock), BAD) == GOOD
    later = trial(tmp_path, clock)
    assert starts_with(later, WORSE) == WORSE
    assert later.now is None
    assert not (tmp_path / NAME).exists()


def test_a_reload_without_a_trial_of_its_own_confirms_nothing(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60)
    tried.follow(WORSE)
    assert tried.left_s == 60
    tried.begin(BAD, WORSE, 90)
    assert tried.left_s == 90
    assert went_back(tried) == GOOD
    tried.follow(BAD)
    assert tried.now is None


def test_what_cannot_be_applied_leaves_the_trial_as_it_was(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60)
    before = tried.now
    tried.begin(WORSE, BAD, 600)
    tried.keep(before)
    assert tried.left_s == 60
    assert starts_with(trial(tmp_path, clock), BAD) == BAD
    tried.keep(None)
    assert tried.now is None


def test_a_trial_that_cannot_be_saved_is_none(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "state").write_text("")
    tried = trial(tmp_path / "state", clock)
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        tried.begin(BAD, GOOD, 60)
    assert tried.now is None


DAMAGED = pytest.mark.parametrize(
    "content", [b"", b"{", b'{"until": "soon"}', b'{"until": 1e300}', b"\xff", b"[" * 100_000]
)


@DAMAGED
def test_a_damaged_file_is_no_trial_and_whoever_is_asked_says_so(tmp_path: Path, clock: Clock, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    tried = trial(tmp_path, clock)
    assert starts_with(tried, BAD) == BAD
    assert "trial.json cannot be read, nor its copy: bgpd.toml is in force, though" in tried.warnings()[0]
    assert trial(tmp_path, clock).warnings() == [], "nobody has looked yet"
    assert tried.confirm()
    assert (tried.warnings(), list(tmp_path.iterdir())) == ([], [])
    (tmp_path / NAME).write_bytes(content)
    starts_with(tried, BAD)
    tried.follow(WORSE)
    assert (tried.warnings(), list(tmp_path.iterdir())) == ([], [])


@DAMAGED
@pytest.mark.parametrize("over", [False, True])
def test_a_damaged_file_costs_nothing_as_long_as_its_copy_is_good(
    tmp_path: Path, clock: Clock, content: bytes, over: bool
) -> None:
    first = trial(tmp_path, clock)
    first.begin(BAD, GOOD, 60)
    if over:
        went_back(first)
    (tmp_path / NAME).write_bytes(content)
    clock.time += 10
    later = trial(tmp_path, clock)
    assert starts_with(later, BAD) == (GOOD if over else BAD)
    assert later.left_s == (None if over else 50)
    clock.time += 50
    assert starts_with(trial(tmp_path, clock), BAD) == GOOD


def test_a_copy_alone_is_no_trial(tmp_path: Path, clock: Clock) -> None:
    """It was being confirmed, or had not begun, when the power went."""
    trial(tmp_path, clock).begin(BAD, GOOD, 60)
    (tmp_path / NAME).unlink()
    tried = trial(tmp_path, clock)
    assert starts_with(tried, BAD) == BAD
    assert (tried.left_s, tried.warnings()) == (None, [])


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_that_is_set_neither_lengthens_nor_shortens_a_trial(
    tmp_path: Path, clock: Clock, seconds: float
) -> None:
    trial(tmp_path, clock).begin(BAD, GOOD, 60)
    clock.time += 20
    later = set_clock(tmp_path, clock, seconds)
    assert starts_with(later, BAD) == BAD
    assert (later.left_s, later.until) == (40, clock.time + seconds + 40)
    clock.time += 40
    assert starts_with(set_clock(tmp_path, clock, seconds), BAD) == GOOD


@pytest.mark.parametrize(("seconds", "left_s"), [(-3600.0, 60.0), (10.0, 50.0), (3600.0, None)])
def test_after_a_start_of_the_host_a_trial_takes_no_longer_than_it_took(
    tmp_path: Path, clock: Clock, seconds: float, left_s: float | None
) -> None:
    trial(tmp_path, clock).begin(BAD, GOOD, 60)
    later = set_clock(tmp_path, clock, seconds, boots=True)
    assert starts_with(later, BAD) == (GOOD if left_s is None else BAD)
    assert later.left_s == left_s


def test_who_confirms_too_late_confirms_nothing(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60)
    clock.time += 60
    went_back(tried)
    assert not tried.confirm()
    assert "not in force" in tried.warnings()[0]
    assert starts_with(trial(tmp_path, clock), BAD) == GOOD


def test_a_confirmation_that_cannot_be_saved_is_none(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="Read-only"):
        tried.confirm()
    assert tried.left_s == 60


def test_a_file_that_changes_while_a_trial_goes_on_is_on_trial_at_a_start(tmp_path: Path, clock: Clock) -> None:
    trial(tmp_path, clock).begin(BAD, GOOD, 60)
    clock.time += 10
    later = trial(tmp_path, clock)
    assert starts_with(later, WORSE) == WORSE
    assert later.left_s == 50
    clock.time += 60
    assert starts_with(trial(tmp_path, clock), WORSE) == GOOD


def test_what_takes_effect_at_a_start_only_is_not_tried(tmp_path: Path, clock: Clock) -> None:
    moved = msgspec.structs.replace(BAD, api=ApiConfig(socket="/run/elsewhere.sock"))
    trial(tmp_path, clock).begin(moved, GOOD, 60)
    later = trial(tmp_path, clock)
    assert starts_with(later, moved) == BAD
    later.confirm()
    assert starts_with(trial(tmp_path, clock), moved) == moved


def test_what_it_goes_back_to_has_its_own_files_and_numbers(tmp_path: Path, clock: Clock) -> None:
    tried = trial(tmp_path, clock)
    tried.begin(BAD, GOOD, 60, origin=ConfigurationView(files=["bgpd.toml"], variables={"env:RACK": "1"}))
    clock.time += 60
    for found in (tried.go_back(loaded(BAD)), trial(tmp_path, clock).at_start(loaded(BAD))):
        assert found is not None
        assert (found.config, found.files, found.variables) == (GOOD, ("bgpd.toml",), {"env:RACK": "1"})
        assert found.identity == Identity()
