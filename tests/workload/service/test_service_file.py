"""What a crash leaves of services: one that works stays announced while its checks begin anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bgpd.model.service import Backend, CheckType, HealthCheck, LastResort, Service
from bgpd.workload.service.service_file import NAME, SavedService, ServiceFile
from bgpd.workload.service.services import Services
from tests.workload.service.rig import A, B, Clock, ServiceRig, clocked

SLOW = HealthCheck(type=CheckType.TCP, port=80, interval_s=60.0, rise=3, fall=2)
BACKENDS = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,)))
SERVICE = Service(addresses=("10.64.9.1",), backends=BACKENDS, check=SLOW, last_resort=LastResort.KEEP)


def file_of(services: Services, directory: Path, boot_id: str = "one") -> ServiceFile:
    return ServiceFile(str(directory), of=services.saved_of, boot_id=lambda: boot_id)


async def written(services: Services, directory: Path, *names: str) -> None:
    file = file_of(services, directory)
    task = asyncio.create_task(file.run())
    for name in names:
        file.note(name)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def crashed(directory: Path, *, bad: bool = False) -> Clock:
    """A process in which a and b worked, and with `bad` do not any more, has crashed; its clock."""
    rig, clock = clocked()
    rig.services.apply("mqtt", "web", SERVICE)
    rig.settle()
    for reason in ("", "", "", *(("down", "down") if bad else ())):
        rig.result("a", reason)
        rig.result("b", reason)
    assert rig.is_announced
    asyncio.run(written(rig.services, directory, "web", "gone"))
    return clock


def started(directory: Path, clock: Clock, *, boot_id: str = "one", service: Service = SERVICE) -> ServiceRig:
    """The process after it, which has heard nothing of checks yet."""
    rig, new = clocked()
    new.now = clock.now
    rig.begin_start()
    rig.services.remember_crashed(file_of(rig.services, directory, boot_id).load())
    rig.services.apply("mqtt", "web", service)
    rig.settle()
    return rig


def released(rig: ServiceRig) -> bool:
    rig.services.release()
    rig.settle()
    return rig.is_announced


def test_what_worked_before_is_announced_after_one_good_answer(tmp_path: Path) -> None:
    rig = started(tmp_path, crashed(tmp_path))
    assert rig.services.undecided(), "it may be long ago: they are asked first"
    rig.result("a")
    rig.result("b")
    assert not rig.services.undecided()
    assert released(rig)


def test_it_stays_announced_until_its_checks_say_that_it_is_down(tmp_path: Path) -> None:
    service = msgspec.structs.replace(SERVICE, last_resort=LastResort.WITHDRAW)
    rig = started(tmp_path, crashed(tmp_path), service=service)
    rig.result("a", "down")
    rig.result("b", "down")
    assert not rig.services.undecided()
    assert released(rig), "fall is 2"
    rig.result("a", "down")
    assert rig.is_announced
    rig.result("b", "down")
    assert not rig.is_announced


def test_no_answer_in_time_is_no_reason_to_withdraw(tmp_path: Path) -> None:
    assert released(started(tmp_path, crashed(tmp_path)))


def test_last_resort_goes_on(tmp_path: Path) -> None:
    rig = started(tmp_path, crashed(tmp_path, bad=True))
    assert not rig.services.undecided(), "what was down must work `rise` times first, as before"
    assert released(rig)
    assert rig.services.state_counts()["last-resort"] == 1


@pytest.mark.parametrize("spoil", ["boot", "check", "file", "missing", "entry"])
def test_what_says_nothing_of_this_start_or_this_check_counts_nothing(tmp_path: Path, spoil: str) -> None:
    clock = crashed(tmp_path)
    path, service = tmp_path / NAME, SERVICE
    if spoil == "check":
        other = msgspec.structs.replace(SLOW, port=81)
        service = msgspec.structs.replace(SERVICE, check=other, last_resort=LastResort.WITHDRAW)
    if spoil == "file":
        path.write_bytes(path.read_bytes()[:-9])
    if spoil == "missing":
        path.unlink()
    if spoil == "entry":
        path.write_text('{"boot_id": "one", "services": {"web": [1, 2]}}')
    rig = started(tmp_path, clock, boot_id="two" if spoil == "boot" else "one", service=service)
    assert rig.services.undecided()
    assert not released(rig)


def test_service_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    """An earlier version took what this one refuses: the other services stay announced."""
    clock = crashed(tmp_path)
    path = tmp_path / NAME
    found = msgspec.json.decode(path.read_bytes())
    standing, checks = found["services"]["web"]
    ended = [[id, {**check, "type": "http", "path": "/x\n"}, *more] for id, check, *more in checks]
    found["services"] = {"old": [standing, ended], **found["services"], "no": [1, 2]}
    path.write_bytes(msgspec.json.encode(found))
    assert released(started(tmp_path, clock))


@pytest.mark.parametrize("time", [1e300, -1e308])
@pytest.mark.parametrize(
    "place",
    ["0.0.0.3", "0.0.0.4", "0.1.0.2", "0.1.0.3", "0.2.0.3", "0.2.0.4", "0.2.0.5", "0.2.0.6", "0.2.0.7", "0.3", "1.0.4"],
)
def test_times_that_cannot_be_cost_what_is_known_of_the_service(tmp_path: Path, place: str, time: float) -> None:
    """They were taken, and the service could not be judged any more (OverflowError)."""
    clock = crashed(tmp_path)
    path = tmp_path / NAME
    found = msgspec.json.decode(path.read_bytes())
    *way, last = map(int, place.split("."))
    at = found["services"]["web"]
    for step in way:
        at = at[step]
    at[last] = {"10.64.9.1": time} if isinstance(at[last], dict) else time
    path.write_bytes(msgspec.json.encode(found))
    rig = started(tmp_path, clock)
    assert rig.services.undecided()
    rig.result("a")
    assert not released(rig)


def test_the_file_is_written_when_something_in_it_changed_and_holds_no_service_that_has_gone(tmp_path: Path) -> None:
    async def run() -> None:
        known: dict[str, SavedService] = {}
        crashed_before = file_of(rig.services, tmp_path).load()
        known |= crashed_before
        file = ServiceFile(str(tmp_path), of=known.get, boot_id=lambda: "one")
        task = asyncio.create_task(file.run())
        file.note("web")
        file.note("other")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert file_of(rig.services, tmp_path).load() == crashed_before
        (tmp_path / NAME).unlink()
        file._changed["web"] = None
        file._take(1)
        file._write(file._services)
        assert not (tmp_path / NAME).exists(), "nothing changed"
        known.clear()
        file._changed["web"] = None
        file._take(1)
        file._write(file._services)
        assert file_of(rig.services, tmp_path).load() == {}

    rig = ServiceRig()
    crashed(tmp_path)
    asyncio.run(run())


def test_a_directory_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rig = ServiceRig()
    rig.services.apply("mqtt", "web", SERVICE)
    asyncio.run(written(rig.services, tmp_path / "file" / "below", "web"))
    assert file_of(rig.services, tmp_path / "file" / "below").load() == {}
