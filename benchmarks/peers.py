"""The daemons that are measured, each in its sensible configuration for the same work: how to start and end one.

All take every route of every leaf, use equal paths together (ECMP), write to the main table, and announce the kernel
routes that other programs put on "pod0". None has a filter or a log that the others have not. GoBGP (without zebra) and
OpenBGPD (on Linux) write no kernel routes: they are asked how many routes their own table has.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.topology import BFD_INTERVAL_MS, BFD_MULTIPLIER, HOST_ASN, LEAF_ASN, REPOSITORY, Topology
from benchmarks.usage import Usage, usage_of
from labs.daemons import FRR_LIBEXEC, Bfd, Bgpd, Bird, Daemon, Frr, Gobgp, OpenBgpd
from labs.forms import NotCompiled, compiled_form
from labs.gobgp_config import gobgp_neighbor, gobgp_router
from labs.process import LabError, run_command, wait_until

BGPD, PLAIN = "bgpd", "bgpd (plain)"
"""In the form that users get, compiled where that can be done here; and as plain Python, which must be asked for."""
HOLD_TIME_S = 240
ROUTER_ID = "10.255.1.1"


class Running(msgspec.Struct, kw_only=True):
    """A started daemon in the host's namespace.

    `count`: the routes that its table has by the leaf with the fewest; None for those that write kernel routes: the
    kernel is asked instead. `paths_by`: how many IPv4 paths its RIB has by a leaf, where that can be asked.
    """

    name: str
    daemon: Daemon
    restart: Callable[[], None]
    count: Callable[[], int] | None = None
    paths_by: Callable[[int], int] | None = None
    bfd: Daemon | None = None
    """The process that speaks BFD for it, where that is one of its own which outlives it."""

    @property
    def pids(self) -> list[int]:
        """Its processes (those below them come along in `usage`)."""
        return [process.pid for process in self.daemon.processes if process.exit_code is None]

    def usage(self) -> Usage:
        """CPU and memory of all its processes."""
        return usage_of(self.pids)

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        for process in self.daemon.processes:
            process.kill()


@functools.cache
def form_of(name: str) -> Path | None:
    """Where the code of a contestant bgpd is; None: it runs as plain Python."""
    try:
        return None if name == PLAIN else compiled_form()
    except NotCompiled as error:
        print(f"bgpd is measured as plain Python: {error}")
        return None


@functools.cache
def _installed_bfd() -> tuple[str, ...]:
    """What has the BFD process run as an installed one does, from byte code: compiling it takes 2 MB more."""
    folder = tempfile.TemporaryDirectory(prefix="bgpd-bfd-")
    atexit.register(folder.cleanup)
    package = Path(folder.name) / "bgpd"
    shutil.copytree(REPOSITORY / "bgpd" / "bfd", package / "bfd", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "bgpd" / "__init__.py", package)
    run_command([sys.executable, "-m", "compileall", "-q", str(package)], timeout_s=60.0)
    return ("PYTHONSAFEPATH=1", f"PYTHONPATH={folder.name}")


def start_bgpd(topology: Topology, further: str = "", *, name: str = BGPD, level: str = "warning") -> Running:
    """bgpd: `import = "all"`, workloads from the kernel's routes on pod0; `further` tables of its configuration. Its
    log has `level`."""
    families = ", ".join(f'"{family}"' for family in topology.families)
    bfd = Bfd(topology.host, environment=_installed_bfd()) if topology.has_bfd else None
    neighbors = "".join(
        f"""
[[neighbor]]
name = "leaf{number}"
address = "10.0.{number}.2"
asn = {LEAF_ASN}
families = [{families}]
import = "all"
hold_time_s = {HOLD_TIME_S}
connect_retry_s = 1
graceful_restart = {{ restart_time_s = 120 }}
{f"bfd = {{ interval_ms = {BFD_INTERVAL_MS}, multiplier = {BFD_MULTIPLIER} }}" if topology.has_bfd else ""}
"""
        for number in range(topology.count)
    )
    config = f"""
[router]
asn = {HOST_ASN}
router_id = "{ROUTER_ID}"
{neighbors}
[workload.kernel]
interfaces = ["pod*"]
{further}
{f'[bfd]{chr(10)}socket = "{bfd.socket_path}"' if bfd else ""}
[log]
level = "{level}"
"""
    daemon = Bgpd(topology.host, config, form=form_of(name))

    def paths_by(leaf: int) -> int:
        (neighbor,) = (one for one in daemon.show("neighbors") if one["name"] == f"leaf{leaf}")
        return int(neighbor["families"]["ipv4-unicast"]["received"])

    return Running(name=name, daemon=daemon, restart=daemon.start, paths_by=paths_by, bfd=bfd)


def start_bird(topology: Topology) -> Running:
    """BIRD 2: one kernel protocol for each family, `merge paths`, learned kernel routes exported to the leaves."""
    both = "".join(
        f"""
protocol kernel kernel{version} {{
  learn;
  netlink rx buffer 67108864;
  persist;
  merge paths on limit 16;
  graceful restart on;
  ipv{version} {{ import all; export where source = RTS_BGP; }};
}}
"""
        for version in (4, 6)
    )
    channels = "".join(
        f"ipv{version} {{ import all; export where source = RTS_INHERIT; next hop self; }};\n"
        for version in (4, 6)
        if f"ipv{version}-unicast" in topology.families
    )
    neighbors = "".join(
        f"""
protocol bgp leaf{number} {{
  local 10.0.{number}.1 as {HOST_ASN};
  neighbor 10.0.{number}.2 as {LEAF_ASN};
  hold time {HOLD_TIME_S};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 5;
  graceful restart on;
  {"bfd on;" if topology.has_bfd else ""}
  {channels}
}}
"""
        for number in range(topology.count)
    )
    head = f"router id {ROUTER_ID};\nlog stderr {{ warning, error, fatal, bug }};\nprotocol device {{}}\n"
    if topology.has_bfd:
        timers = f"interval {BFD_INTERVAL_MS} ms; multiplier {BFD_MULTIPLIER};"
        head += f'protocol bfd {{ interface "leaf*" {{ {timers} }}; }}\n'
    daemon = Bird(topology.host, head + both + neighbors)
    path, control = daemon.directory / "bird.conf", daemon.control

    def restart() -> None:
        daemon.processes.clear()
        process = daemon.namespace.popen(
            "bird", "-f", "-R", "-c", str(path), "-s", str(control), log_path=daemon.directory / "restart.log"
        )
        daemon.processes.append(process)

    def paths_by(leaf: int) -> int:
        answer = daemon.birdc(f"show route count table master4 protocol leaf{leaf}")
        return int(answer.split(" of ")[0].split()[-1])

    return Running(name="BIRD", daemon=daemon, restart=restart, paths_by=paths_by)


def start_frr(topology: Topology) -> Running:
    """FRR: zebra and bgpd, `maximum-paths 16`, multipath-relax, `redistribute kernel`."""
    neighbors = "".join(
        f" neighbor 10.0.{number}.2 remote-as {LEAF_ASN}\n neighbor 10.0.{number}.2 timers 80 {HOLD_TIME_S}\n"
        f" neighbor 10.0.{number}.2 timers connect 1\n neighbor 10.0.{number}.2 advertisement-interval 0\n"
        + (
            f" neighbor 10.0.{number}.2 bfd {BFD_MULTIPLIER} {BFD_INTERVAL_MS} {BFD_INTERVAL_MS}\n"
            if topology.has_bfd
            else ""
        )
        for number in range(topology.count)
    )
    blocks = "".join(
        f" address-family ipv{version} unicast\n  maximum-paths 16\n  redistribute kernel\n"
        + "".join(f"  neighbor 10.0.{number}.2 activate\n" for number in range(topology.count))
        + " exit-address-family\n"
        for version in (4, 6)
        if f"ipv{version}-unicast" in topology.families
    )
    config = (
        f"router bgp {HOST_ASN}\n bgp router-id {ROUTER_ID}\n no bgp ebgp-requires-policy\n"
        " no bgp default ipv4-unicast\n no bgp network import-check\n bgp bestpath as-path multipath-relax\n"
        f" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n{neighbors}{blocks}"
    )
    daemon = Frr(topology.host, config, bfd=topology.has_bfd)

    def restart() -> None:
        daemon.processes.clear()
        directory = daemon.directory
        command = [str(FRR_LIBEXEC / "zebra"), "-f", "/dev/null", "-i", str(directory / "zebra.pid"), "-P", "0"]
        command += ["-z", str(directory / "zserv.api"), "--vty_socket", str(directory), "-K", "120"]
        daemon.processes.append(daemon.namespace.popen(*command, log_path=directory / "restart.log"))
        wait_until((directory / "zserv.api").is_socket, 10.0, "zebra to start again")
        daemon.start_daemon("bgpd")
        daemon.configure(config)

    return Running(name="FRR", daemon=daemon, restart=restart)


def start_gobgp(topology: Topology) -> Running:
    """GoBGP without zebra."""
    families = dict.fromkeys(topology.families, "")
    timers = {"hold_time": HOLD_TIME_S, "keepalive_interval": 80}
    neighbors = "".join(
        gobgp_neighbor(f"10.0.{number}.2", LEAF_ASN, families=families, **timers) for number in range(topology.count)
    )
    multipath = "[global.use-multiple-paths.config]\nenabled = true\n"
    daemon = Gobgp(topology.host, gobgp_router(HOST_ASN, ROUTER_ID, multipath) + neighbors)

    def count() -> int:
        found = []
        for number in range(topology.count):
            states = daemon.json("neighbor", f"10.0.{number}.2").get("afi_safis", [])
            found.append(sum(int(state.get("state", {}).get("accepted", 0)) for state in states))
        return min(found)

    return Running(name="GoBGP", daemon=daemon, restart=_no_restart, count=count)


def start_openbgpd(topology: Topology) -> Running:
    """OpenBGPD."""
    families = (family.replace("ipv", "IPv").replace("-", " ") for family in topology.families)
    announced = "".join(f"  announce {family}\n" for family in families)
    neighbors = "".join(
        f"neighbor 10.0.{number}.2 {{\n  remote-as {LEAF_ASN}\n{announced}}}\n" for number in range(topology.count)
    )
    head = f"AS {HOST_ASN}\nrouter-id {ROUTER_ID}\nholdtime {HOLD_TIME_S}\nconnect-retry 1\n"
    daemon = OpenBgpd(topology.host, f"{head}{neighbors}allow from any\ndeny to any\n")

    def count() -> int:
        neighbors = daemon.json("show", "neighbor")["neighbors"]
        return min(int(neighbor["stats"]["prefixes"]["received"]) for neighbor in neighbors)

    return Running(name="OpenBGPD", daemon=daemon, restart=_no_restart, count=count)


def _no_restart() -> None:
    raise LabError("this daemon is not measured in cases that start it again")


OWN_TABLE: dict[str, Callable[[Topology], Running]] = {"OpenBGPD": start_openbgpd, "GoBGP": start_gobgp}
"""Those that write no kernel routes here."""
STARTERS: dict[str, Callable[[Topology], Running]] = {
    BGPD: start_bgpd,
    PLAIN: partial(start_bgpd, name=PLAIN),
    "BIRD": start_bird,
    "FRR": start_frr,
}
RAW = "raw kernel"


def available(*, own_table: bool = False) -> list[str]:
    """The contestants that this machine can run, bgpd first; `own_table`: those without kernel routes, too."""
    found = []
    if importlib.util.find_spec("bgpd.daemon") is not None:
        found += [BGPD, PLAIN]
    if shutil.which("bird"):
        found.append("BIRD")
    if (FRR_LIBEXEC / "zebra").exists():
        found.append("FRR")
    if own_table and OpenBgpd.PROGRAM.exists():
        found.append("OpenBGPD")
    if own_table and shutil.which("gobgpd"):
        found.append("GoBGP")
    return found


def start(name: str, topology: Topology) -> Running:
    """Starts a daemon and waits until its sessions with all leaves are established.

    Raises: LabError: a session did not come up.
    """
    running = (STARTERS | OWN_TABLE)[name](topology)
    for leaf in topology.leaves:
        leaf.ask("established")
    time.sleep(1.0)
    return running
