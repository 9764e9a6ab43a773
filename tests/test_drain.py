"""The drain of a host: its stages by the clock, services that stay, counters, what a restart knows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bgpd import drain as drain_module
from bgpd.api.backend import Rejected
from bgpd.cli.drain import drain_lines
from bgpd.config.schema import Config, DrainConfig, StateConfig
from bgpd.config.schema_sessions import BfdConfig
from bgpd.drain import QUIET_LOOKS, Drain
from bgpd.drain_traffic import GROUP, INTERFACE, Counter, Traffic, Watched
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from bgpd.model.source import Source
from bgpd.model.views.orders import DrainRequest
from tests.logs import capture_logs
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, hop, key, leaf, session
from tests.waiting import until

POD, SERVICE = "10.64.1.5/32", "10.64.100.1/32"
SETTLE_S = 10
UPLINK = Counter(INTERFACE, "eth0", "received")


class Site:
    """A drain over a RIB with a pod and a service, which another host announces too unless `alone`."""

    def __init__(
        self, directory: Path, *, alone: bool = False, boot_id: str = "boot1", now: float = 1000.0, left: bytes = b""
    ) -> None:
        neighbors = session("leaf1", interface="eth0"), session("leaf2")
        self.config: Config = msgspec.structs.replace(
            configuration(*neighbors),
            state=StateConfig(directory=str(directory)),
            drain=DrainConfig(settle_s=SETTLE_S, on_shutdown=True),
        )
        self.recorder = Recorder(self.config)
        self.now = now
        self.packets = 0
        rib = self.recorder.rib
        self.routing = SimpleNamespace(
            rib=rib,
            sources={},
            converged=True,
            speaker=SimpleNamespace(awaiting_end_of_rib=list, sends_end_of_rib=lambda source: True),
            tables=SimpleNamespace(fibs={}),
            host=SimpleNamespace(links={1: SimpleNamespace(name="eth0", index=1)}),
        )
        self.drain = Drain(
            self.routing,  # type: ignore[arg-type]
            config=lambda: self.config,
            changed=lambda: None,
            now=lambda: self.now,
            clock=lambda: self.now,
            read=self._read,
            boot_id=lambda: boot_id,
        )
        self.drain.restore(left)
        rib.announce_local(LOCAL, V4, [key(POD)], attributes())
        rib.announce_local(LOCAL, V4, [key(SERVICE)], attributes(), exception=True, is_service=True)
        self.leaf1, self.leaf2 = (self._up(number, one) for number, one in enumerate(neighbors, 1))
        if not alone:
            self.other()
        self.recorder.turn()

    def _up(self, number: int, config: Any) -> Source:
        source = self.recorder.up(leaf(number), config)
        self.routing.sources[source.name] = source
        return source

    def _read(self, counters: list[Counter], indexes: Mapping[str, int]) -> Mapping[Counter, int]:
        return dict.fromkeys(counters, self.packets)

    def other(self, *communities: int) -> None:
        given = attributes(65201, 65204, communities=communities)
        self.recorder.announce(self.leaf2, given, hop("10.0.2.2"), SERVICE)

    def sent(self) -> dict[str, bool]:
        """What leaf1 has of pod and service: True with GRACEFUL_SHUTDOWN."""
        told = self.recorder.told[self.leaf1]
        return {
            prefix: told[key(prefix)].has_community(COMMUNITY_GRACEFUL_SHUTDOWN)
            for prefix in (POD, SERVICE)
            if key(prefix) in told
        }

    async def look(self, *, after_s: float = 0.0, packets_per_s: int = 0) -> None:
        self.now += after_s
        self.packets += int(after_s * packets_per_s)
        await self.drain.look()
        self.recorder.turn()

    async def on(self, **fields: Any) -> None:
        await self.drain.on(DrainRequest(**fields), who="test")
        self.recorder.turn()

    async def until_drained(self) -> None:
        for _ in range(20):
            await self.look(after_s=SETTLE_S / 2)
            if self.drain.view().state == "drained":
                return
        raise AssertionError(self.drain.view())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_services_are_withdrawn_when_the_fabric_has_settled_and_it_ends_when_counters_are_quiet(
    site: Site,
) -> None:
    await site.on()
    assert site.sent() == {POD: True, SERVICE: True}
    await site.look(after_s=SETTLE_S - 1)
    assert site.drain.view().waiting_for == ["the fabric has 1 s more to choose other paths"]
    await site.look(after_s=1)
    assert site.sent() == {POD: True}
    for _ in range(QUIET_LOOKS):
        assert site.drain.view().state == "draining"
        await site.look(after_s=1)
    assert site.drain.view().state == "drained"
    assert site.drain.view().not_counted == [f"service {SERVICE}: bgpd has no kernel route of it"]
    await site.drain.off(who="test")
    site.recorder.turn()
    assert site.sent() == {POD: False, SERVICE: False}


async def test_all_goes_one_stage_later_and_traffic_on_an_uplink_is_named_until_it_has_gone(site: Site) -> None:
    await site.on(all=True)
    await site.look(after_s=SETTLE_S)
    await site.look(after_s=SETTLE_S - 1)
    assert site.sent() == {POD: True}
    await site.look(after_s=1)
    assert site.sent() == {}
    for _ in range(5):
        await site.look(after_s=1, packets_per_s=40)
    view = site.drain.view()
    assert view.state == "draining"
    assert view.waiting_for == ["40 packets/s received on eth0 (what arrives from the fabric)"]
    assert view.still_flows == view.waiting_for
    for _ in range(QUIET_LOOKS):
        await site.look(after_s=1, packets_per_s=10)
    assert site.drain.view().state == "drained"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "MOST_LOOKING_S", 0.0)


async def test_the_last_host_is_refused_and_what_was_lowered_is_as_before(tmp_path: Path, impatient: None) -> None:
    site = Site(tmp_path, alone=True)
    with pytest.raises(Rejected, match=SERVICE) as refused:
        await site.on()
    assert (refused.value.status, site.drain.view().state) == (409, "off")
    site.recorder.turn()
    assert site.sent() == {POD: False, SERVICE: False}
    await site.on(force=True)
    await site.until_drained()
    assert site.sent() == {POD: True}


async def test_while_it_is_refused_lowering_may_show_another_host(tmp_path: Path) -> None:
    site = Site(tmp_path, alone=True)
    ordered = asyncio.create_task(site.on())
    for _ in range(10):
        await asyncio.sleep(0)
    assert site.sent() == {POD: False, SERVICE: False}
    site.recorder.turn()
    assert site.sent() == {POD: True, SERVICE: True}
    site.other()
    await ordered
    assert site.drain.view().state == "draining"


async def test_a_service_stays_while_no_other_host_stays_with_it(site: Site) -> None:
    await site.on()
    site.other(COMMUNITY_GRACEFUL_SHUTDOWN)
    await site.look(after_s=SETTLE_S)
    await site.look(after_s=100)
    assert site.sent() == {POD: True, SERVICE: True}
    assert site.drain.view().kept == [SERVICE]
    assert "no other host is seen to announce" in site.drain.view().waiting_for[-1]
    site.other()
    await site.look()
    assert site.sent() == {POD: True}
    await site.until_drained()
    site.recorder.withdraw(site.leaf2, SERVICE)
    await site.look(after_s=1)
    assert site.sent() == {POD: True}, "what is drained stays out until it is brought back"


async def test_a_restart_goes_on_where_it_was_and_an_order_for_a_time_ends_while_it_is_down(tmp_path: Path) -> None:
    first = Site(tmp_path)
    await first.on(for_s=3600)
    await first.until_drained()
    second = Site(tmp_path, now=first.now + 60)
    assert second.sent() == {POD: True}
    assert (second.drain.view().state, second.drain.view().until) == ("drained", 4600.0)
    await second.look(after_s=3600)
    assert second.drain.view().state == "off"
    assert second.sent() == {POD: False, SERVICE: False}
    await first.on(for_s=60)
    assert Site(tmp_path, now=10_000.0).drain.view().state == "off"


async def test_a_shutdown_s_drain_ends_with_the_boot_and_what_was_ordered_before_holds_again(tmp_path: Path) -> None:
    first = Site(tmp_path)
    await first.on(shutdown=True)
    assert Site(tmp_path).drain.view().shutdown, "the daemon was only restarted"
    assert Site(tmp_path, boot_id="boot2").drain.view().state == "off"
    second = Site(tmp_path / "other")
    await second.on()
    await second.until_drained()
    await second.on(shutdown=True)
    await second.until_drained()
    assert second.sent() == {}
    after = Site(tmp_path / "other", boot_id="boot2")
    assert (after.drain.view().stage, after.drain.view().all) == ("services-withdrawn", False)
    assert after.sent() == {POD: True}


async def test_an_order_changes_the_one_in_force_and_never_takes_back_all(site: Site) -> None:
    await site.on(all=True)
    since = site.drain.view().since
    await site.until_drained()
    await site.on(for_s=60)
    view = site.drain.view()
    assert (view.all, view.since, view.until, view.state) == (True, since, site.now + 60, "drained")


async def test_a_host_that_is_told_twice_that_it_goes_down_is_back_after_the_boot(tmp_path: Path) -> None:
    """As where a shutdown is called off, and comes after all."""
    site = Site(tmp_path)
    await site.on(shutdown=True)
    await site.on(shutdown=True)
    assert Site(tmp_path, boot_id="boot2").drain.view().state == "off"
    other = Site(tmp_path / "other")
    await other.on(for_s=3600)
    for _ in range(2):
        await other.on(shutdown=True)
    view = Site(tmp_path / "other", boot_id="boot2").drain.view()
    assert (view.state, view.shutdown, view.until) == ("draining", False, other.now + 3600)


@pytest.mark.parametrize(
    "text",
    [
        '{"order":{"since":1e300}}',
        '{"order":{"since":-1}}',
        '{"order":{"since":1,"until":1e300}}',
        '{"order":{"since":1},"stage":3,"drained_at":1e300}',
        '{"order":{"since":1},"stage":9}',
        '{"order":{"since":1},"stage":2,"kept":[["","ipv4-unicast",""]]}',
        '{"order":{"since":1},"stage":2,"kept":[["","ipv4-unicast","IQoBAgM="]]}',
        '{"order":{"since":1},"stage":2,"kept":[["","ipv4-unicast","FAoBLw=="]]}',
        '{"order":{"since":1},"stage":2,"kept":[["","ipv4-unicast","GAo="]]}',
        '{"order":{"since":1},"stage":2,"kept":[["","l2vpn-evpn","AAAA"]]}',
        '{"order":{"since":1},"stage":2,"kept":[["",1,"AAAA"]]}',
        '{"order":{"since":1,"before":' * 2000 + "null" + "}" * 4000,
        "[]",
        "{}",
        "",
        "\xff",
    ],
)
async def test_a_file_that_cannot_be_carried_out_is_kept_aside_and_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "drain.json").write_bytes(text.encode("latin1"))
    with capture_logs() as logs:
        site = Site(tmp_path)
    assert [(entry["event"], entry["kept_as"]) for entry in logs] == [("drain.state_unreadable", "drain.json.damaged")]
    assert (tmp_path / "drain.json.damaged").read_bytes() == text.encode("latin1")
    assert not (tmp_path / "drain.json").exists()
    assert (site.drain.view().state, site.drain.reason()) == ("off", "")
    (warning,) = site.drain.warnings()
    assert "kept as drain.json.damaged: a drain of before is not in force" in warning
    await site.on()
    assert site.drain.warnings() == []
    await site.until_drained()


async def test_a_file_that_cannot_be_read_stays_and_is_warned_of_until_somebody_says_otherwise(tmp_path: Path) -> None:
    """It may have said that this host is out of service, which it is not now; the next start may read it."""
    (tmp_path / "drain.json").mkdir()
    site = Site(tmp_path)
    assert (tmp_path / "drain.json").is_dir()
    assert site.drain.warnings() == [
        f"{tmp_path}/drain.json cannot be read: Is a directory: a drain of before is not in force; "
        "bgpd drain on or off, as it should be"
    ]
    after = Site(tmp_path, left=site.drain.left())
    assert after.drain.warnings() == site.drain.warnings(), "nobody has said anything yet"
    (tmp_path / "drain.json").rmdir()
    await after.drain.off(who="test")
    assert after.drain.warnings() == []
    assert (tmp_path / "drain.json").read_bytes().startswith(b'{"order":null'), "an order of before does not come back"


async def test_a_file_of_any_order_and_stage_is_carried_out(tmp_path: Path) -> None:
    """Also one that the daemon does not write: an earlier time of the clock, a stage beyond the order's."""
    for text in (
        '{"order":{"since":253402300799,"until":253402300799},"stage":0}',
        '{"order":{"since":5000,"before":{"since":4}},"stage":3,"drained_at":7,"kept":[["blue","ipv4-unicast","AA=="]]}',
        '{"order":{"since":1,"boot_id":"boot1","before":{"since":4,"boot_id":"boot0"}},"stage":3}',
    ):
        (tmp_path / "drain.json").write_text(text)
        site = Site(tmp_path)
        assert site.drain.view().state != "off"
        assert "since" in site.drain.reason()
        assert list(drain_lines(msgspec.to_builtins(site.drain.view()), 1000.0))
        await site.look(after_s=1)
        await site.drain.off(who="test")


async def test_a_damaged_file_is_kept_aside_and_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "drain.json").write_bytes(b'{"order": 7')
    site = Site(tmp_path)
    assert site.drain.view().state == "off"
    assert (tmp_path / "drain.json.damaged").exists()
    (tmp_path / "file").touch()
    lost = Site(tmp_path / "file" / "below")
    await lost.on()
    assert "drain.json" in lost.drain.view().not_saved


async def test_the_next_process_goes_on_though_the_file_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "below"
    before = Site(nowhere)
    await before.on()
    await before.look(after_s=SETTLE_S - 1)
    after = Site(nowhere, now=before.now, left=before.drain.left())
    assert after.drain.view().stage == before.drain.view().stage == "graceful-shutdown"
    assert "drain.json" in after.drain.view().not_saved
    assert after.sent() == {POD: True, SERVICE: True}
    await after.look(after_s=1)
    assert after.drain.view().stage == "services-withdrawn", "the fabric has had its time"
    await after.until_drained()
    again = Site(nowhere, now=after.now, left=after.drain.left())
    assert again.drain.view().state == "drained"
    assert again.drain.view().drained_at == after.drain.view().drained_at


async def test_an_order_that_is_not_answered_yet_is_none_for_the_next_process(tmp_path: Path) -> None:
    """Who has ordered it is told that it failed; a crash meanwhile leaves no file of it either."""
    site = Site(tmp_path, alone=True)
    ordered = asyncio.create_task(site.on())
    await until(lambda: site.drain.view().state == "draining")
    after = Site(tmp_path, alone=True, left=site.drain.left())
    assert after.drain.view().state == "off"
    assert after.sent() == {POD: False, SERVICE: False}
    site.other()
    await ordered
    assert Site(tmp_path, left=site.drain.left()).drain.view().state == "draining", "now it is in force"


async def test_what_the_former_process_says_counts_and_not_an_older_file(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.on()
    (tmp_path / "file").touch()
    before = Site(tmp_path / "file" / "below", left=site.drain.left())
    await before.drain.off(who="test")
    after = Site(tmp_path, left=before.drain.left())
    assert after.drain.view().state == "off"
    running = asyncio.ensure_future(after.drain.run())
    await until(lambda: not after.drain.view().not_saved)
    running.cancel()
    assert Site(tmp_path).drain.view().state == "off", "and the file is right again"
    assert Site(tmp_path, left=b"of another form").drain.view().state == "off"


async def test_packets_of_bfd_are_allowed_for_on_the_uplink(tmp_path: Path) -> None:
    site = Site(tmp_path)
    bfd = msgspec.structs.replace(site.config.neighbor[0], bfd=BfdConfig(interval_ms=100))
    site.config = msgspec.structs.replace(site.config, neighbor=(bfd, site.config.neighbor[1]))
    await site.on(shutdown=True)
    for _ in range(30):
        await site.look(after_s=1, packets_per_s=20)
    assert site.drain.view().state == "drained"


async def test_a_stage_that_begins_while_all_neighbors_are_away_keeps_what_nobody_else_is_seen_to_have(
    site: Site,
) -> None:
    await site.on()
    away = dict(site.routing.sources)
    site.recorder.withdraw(site.leaf2, SERVICE)
    site.routing.sources.clear()
    for _ in range(2 * QUIET_LOOKS):
        await site.look(after_s=SETTLE_S)
    assert site.drain.view().state == "draining"
    site.routing.sources.update(away)
    assert site.sent() == {POD: True, SERVICE: True}
    await site.look()
    assert site.drain.view().kept == [SERVICE]
    site.other()
    await site.until_drained()
    assert site.sent() == {POD: True}


async def test_without_a_neighbor_nothing_is_kept_from_the_next_one(site: Site, impatient: None) -> None:
    await site.on(force=True)
    site.routing.sources.clear()
    await site.until_drained()
    assert site.drain.view().kept == []


def test_traffic_is_quiet_when_every_rate_is_known_and_low() -> None:
    traffic, group = Traffic(), Counter(GROUP, "7")
    watched = Watched(counters={UPLINK: ["a"], group: ["b"]})
    traffic.take(watched, {UPLINK: 100, group: 5}, now=1.0, quiet_packets_per_s=10)
    assert ([view.packets_per_s for view in traffic.views], traffic.is_quiet) == ([None, None], False)
    traffic.take(watched, {UPLINK: 200, group: 5}, now=3.0, quiet_packets_per_s=10)
    assert traffic.still_flows() == ["50 packets/s received on eth0 (a)"]
    traffic.take(watched, {UPLINK: 210}, now=4.0, quiet_packets_per_s=10)
    assert traffic.is_quiet, "a group that is gone has no traffic"
    watched.expected[UPLINK] = 10.0
    traffic.take(watched, {UPLINK: 230}, now=5.0, quiet_packets_per_s=10)
    assert traffic.is_quiet, "packets of BFD are no traffic"
    traffic.take(Watched(), {}, now=6.0, quiet_packets_per_s=0)
    assert traffic.is_quiet
