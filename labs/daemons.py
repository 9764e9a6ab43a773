"""Real routing daemons in a namespace, each with a private directory, a log file and a way to ask it things.

Starts them in the foreground as children, so that ending them needs no pid files. Never touches the system's own
instances: no service unit, no file below /etc, no socket below /run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labs.forms import form_environment
from labs.namespace import Namespace
from labs.process import LabError, LoggedProcess, run_command, wait_until

FRR_LIBEXEC = Path("/usr/lib/frr")
IPV6_IN_PLACE = ["--v6-rr-semantics"]
"""Zebra replaces IPv6 routes, as it does IPv4 ones; without it, it deletes each that changes, and adds it again: a
packet that comes between the two is lost in the leaf, whatever the hosts do."""
READY_TIMEOUT_S = 30.0
BFD_PRIORITY = 10
"""Of SCHED_FIFO; that of bgpd-bfd."""
REPOSITORY = Path(__file__).resolve().parent.parent


class Daemon:
    """What all daemons share: a namespace, a private directory (removed by `stop`), their processes, their logs."""

    kind = "daemon"

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.directory = namespace.make_directory(self.kind)
        self.processes: list[LoggedProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log_path(self) -> Path:
        """The log of the main process."""
        return self.directory / f"{self.kind}.log"

    @property
    def logs(self) -> tuple[Path, ...]:
        """The log files of all its processes, for `wait_until`."""
        return tuple(process.log_path for process in self.processes)

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        return self.processes[-1].pid

    def stop(self) -> None:
        """End its processes in order (last started first) and remove its directory. May be called more than once."""
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End its main process with SIGKILL, as a crash would; directory and other processes stay."""
        self.processes[-1].kill()

    def _start(self, *command: str, log_name: str = "") -> LoggedProcess:
        path = self.directory / f"{log_name}.log" if log_name else self.log_path
        process = self.namespace.popen(*command, log_path=path)
        self.processes.append(process)
        return process

    def _wait_for_socket(
        self, path: Path, process: LoggedProcess, timeout_s: float = READY_TIMEOUT_S, *, greets: bool = False
    ) -> None:
        """Wait until something accepts on a unix socket, or its process ends. `greets`: it speaks first, once it works.

        Raises: LabError: it does not come up, and is ended; with the tail of its log.
        """

        def answers() -> bool:
            if process.exit_code is not None:
                return True
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                try:
                    probe.connect(str(path))
                    return not greets or bool(probe.recv(1))
                except OSError:
                    return False

        try:
            wait_until(answers, timeout_s, f"{self.kind} to answer on {path}", logs=[process.log_path], interval_s=0.02)
        except LabError:
            process.stop()  # else it would be in the way of the next one
            raise
        self._must_run(process)

    def _must_run(self, process: LoggedProcess) -> None:
        if process.exit_code is not None:
            raise LabError(f"{self.kind} ended at start with exit code {process.exit_code}\n{process.tail()}")


class Frr(Daemon):
    """FRR's zebra and bgpd, with `bfd` also its bfdd, with one integrated configuration text, loaded through vtysh."""

    kind = "frr"

    def __init__(self, namespace: Namespace, config: str, *, port: int = 179, bfd: bool = False) -> None:
        super().__init__(namespace)
        shutil.chown(self.directory, "frr", "frr")
        (self.directory / "vtysh.conf").write_text("service integrated-vtysh-config\n")
        self.port = port
        self.start_daemon("zebra")
        if bfd:
            self.start_daemon("bfdd")
        self.start_daemon("bgpd")
        self.configure(config)

    def start_daemon(self, name: str) -> LoggedProcess:
        """Start zebra, bgpd or bfdd (again, after `kill`), with an empty configuration."""
        command = [str(FRR_LIBEXEC / name), "-f", "/dev/null", "-i", str(self.directory / f"{name}.pid")]
        command += ["-z", str(self.directory / "zserv.api"), "--vty_socket", str(self.directory), "-P", "0"]
        command += ["--log", "stdout", "--log-level", "informational"]
        if name == "zebra":
            command += IPV6_IN_PLACE
        if name == "bgpd":
            command += ["-p", str(self.port)]
        if name == "bfdd":
            command += ["--bfdctl", str(self.directory / "bfdd.sock")]
        process = self._start(*command, log_name=name)
        self._wait_for_socket(self.directory / f"{name}.vty", process)
        if name == "bfdd":
            _take_precedence(process.pid)
        return process

    def configure(self, config: str) -> None:
        """Load an frr.conf text into the running daemons.

        Raises: LabError: a line was refused; says which.
        """
        (self.directory / "frr.conf").write_text(config)
        said = run_command([*self._vtysh(), "-b"], timeout_s=60.0)
        if "% " in said:
            raise LabError(f"{self.namespace.name}: FRR refused a line of its configuration:\n{said}")

    def vtysh(self, *commands: str) -> str:
        """Run vtysh commands and return what they print."""
        arguments = [argument for command in commands for argument in ("-c", command)]
        return run_command([*self._vtysh(), *arguments], timeout_s=120.0)

    def vtysh_json(self, command: str) -> Any:
        """Run a `... json` command and return the object."""
        return _parse_json(self.vtysh(command), command)

    def _vtysh(self) -> list[str]:
        return ["vtysh", "--vty_socket", str(self.directory), "--config_dir", str(self.directory)]

    def restart_bgpd(self, config: str = "") -> None:
        """Start bgpd again after `kill`, with the configuration it had, or another."""
        self.start_daemon("bgpd")
        self.configure(config or (self.directory / "frr.conf").read_text())

    def configured(self) -> list[str]:
        """The neighbors (addresses, interfaces) that there should be sessions with."""
        return sorted(self._peers())

    def established(self) -> list[str]:
        """The neighbors (addresses, interfaces) whose session is Established."""
        return sorted(name for name, peer in self._peers().items() if peer.get("state") == "Established")

    def sessions(self) -> dict[str, dict[str, Any]]:
        """What must not change of a session that goes on unnoticed, by neighbor (address, interface)."""
        views = self.vtysh_json("show bgp neighbors json")
        return {name: _session(view) for name, view in views.items()}

    def _peers(self) -> dict[str, Any]:
        peers: dict[str, Any] = {}
        for family in self.vtysh_json("show bgp summary json").values():
            peers.update(family.get("peers", {}))
        return peers


def _session(view: dict[str, Any]) -> dict[str, Any]:
    counts = view["messageStats"]
    return {
        "state": view["bgpState"],
        "ports": (view.get("portForeign"), view.get("portLocal")),
        "established": (view["connectionsEstablished"], view["connectionsDropped"]),
        "opens": (counts["opensSent"], counts["opensRecv"]),
        "notifications": (counts["notificationsSent"], counts["notificationsRecv"]),
        "updates": (counts["updatesSent"], counts["updatesRecv"]),
    }


def _take_precedence(pid: int) -> None:
    """Have the kernel run a switch's BFD first, as bgpd-bfd asks it for a host's: a switch has a processor of its own,
    and does not stop sending because a host, or this machine's other programs, have much to do."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(BFD_PRIORITY))


class Bird(Daemon):
    """BIRD 2 with one configuration text. `recovers`: it was restarted, gracefully (RFC 4724)."""

    kind = "bird"

    def __init__(self, namespace: Namespace, config: str, *, recovers: bool = False) -> None:
        super().__init__(namespace)
        path = self.directory / "bird.conf"
        path.write_text(config)
        self.control = self.directory / "bird.ctl"
        pid_file = str(self.directory / "bird.pid")
        options = ["-R"] if recovers else []
        process = self._start("bird", "-f", *options, "-c", str(path), "-s", str(self.control), "-P", pid_file)
        self._wait_for_socket(self.control, process, greets=True)  # it listens before it reads the configuration

    def birdc(self, command: str) -> str:
        """Run one birdc command and return what it prints."""
        return run_command(["birdc", "-s", str(self.control), *command.split()])

    def established(self) -> list[str]:
        """The BGP protocols whose session is Established."""
        rows = (line.split() for line in self.birdc("show protocols").splitlines())
        return sorted(row[0] for row in rows if len(row) > 5 and row[1] == "BGP" and row[-1] == "Established")


class Gobgp(Daemon):
    """gobgpd with one configuration text (TOML unless `config_type` says otherwise). `recovers`: it was restarted,
    gracefully (RFC 4724)."""

    kind = "gobgp"

    def __init__(self, namespace: Namespace, config: str, *, config_type: str = "toml", recovers: bool = False) -> None:
        super().__init__(namespace)
        path = self.directory / f"gobgpd.{config_type}"
        path.write_text(config)
        arguments = ["-f", str(path), "-t", config_type, "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p"]
        process = self._start("gobgpd", *arguments, *(["-r"] if recovers else []))
        wait_until(
            lambda: process.exit_code is not None or self.run("global"),
            READY_TIMEOUT_S,
            "gobgpd to answer",
            logs=self.logs,
        )
        self._must_run(process)

    def run(self, *arguments: str) -> str:
        """Run the gobgp command line and return what it prints."""
        return self.namespace.run("gobgp", *arguments)

    def json(self, *arguments: str) -> Any:
        """Run the gobgp command line with -j and return the object."""
        return _parse_json(self.run("-j", *arguments), " ".join(arguments))

    def established(self) -> list[str]:
        """The neighbors (addresses) whose session is Established (state 6)."""
        return sorted(
            n["state"]["neighbor_address"] for n in self.json("neighbor") if n["state"].get("session_state") == 6
        )


class ExaBgp(Daemon):
    """ExaBGP as a program of its own, with one configuration text; it listens on the addresses `listens` only.

    `program`: the command line of another ExaBGP than the one of PyPI, without the configuration file.
    """

    kind = "exabgp"
    DEBIAN = ("/usr/sbin/python3-exabgp",)
    """The version 4 of Debian's package python3-exabgp."""

    def __init__(
        self, namespace: Namespace, config: str, *, program: Sequence[str] = (), listens: Sequence[str] = ()
    ) -> None:
        super().__init__(namespace)
        self._listens = " ".join(listens)
        self._program = program or (str(Path(sys.executable).with_name("exabgp")), "server")
        self.config_path = self.directory / "exabgp.conf"
        self.config_path.write_text(config)
        self.restart()

    def restart(self) -> None:
        """Start it, again after `kill`."""
        settings = {"daemon.user": "root", "daemon.drop": "false", "log.level": "WARNING", "api.cli": "false"}
        if self._listens:
            settings["tcp.bind"] = self._listens
        words = [f"exabgp.{key}={value}" for key, value in settings.items()]
        self._start("env", *words, *self._program, str(self.config_path))


class OpenBgpd(Daemon):
    """OpenBGPD with one configuration text. Its portable version has no kernel routes on Linux: a BGP table only.

    Its program is called bgpd, too. It wants the user _openbgpd, whose home its processes make their root directory.
    """

    kind = "openbgpd"
    PROGRAM = Path("/usr/sbin/bgpd")
    HOME = Path("/run/openbgpd")

    def __init__(self, namespace: Namespace, config: str) -> None:
        super().__init__(namespace)
        self.HOME.mkdir(mode=0o755, exist_ok=True)
        self.control = self.directory / "bgpd.sock"
        path = self.directory / "bgpd.conf"
        path.write_text(f'socket "{self.control}"\n{config}')
        path.chmod(0o600)
        process = self._start(str(self.PROGRAM), "-d", "-f", str(path))
        self._wait_for_socket(self.control, process)

    def ctl(self, *arguments: str) -> str:
        """Run `bgpctl ARGUMENTS` and return what it prints."""
        return run_command(["/usr/sbin/bgpctl", "-s", str(self.control), *arguments])

    def json(self, *arguments: str) -> Any:
        """The object of `bgpctl -j ARGUMENTS`."""
        return _parse_json(self.ctl("-j", *arguments), " ".join(arguments))

    def established(self) -> list[str]:
        """The neighbors (addresses) whose session is Established."""
        return sorted(
            n["remote_addr"] for n in self.json("show", "neighbor")["neighbors"] if n["state"] == "Established"
        )


class Mosquitto(Daemon):
    """An MQTT broker; without a configuration text it lets anybody in on 127.0.0.1:1883."""

    kind = "mosquitto"

    def __init__(self, namespace: Namespace, config: str = "listener 1883 127.0.0.1\nallow_anonymous true\n") -> None:
        super().__init__(namespace)
        (self.directory / "mosquitto.conf").write_text(f"user root\n{config}")
        self.start()

    def start(self) -> None:
        """Start the broker (again, after `kill`, and then with nothing retained unless its configuration keeps it)."""
        before = self.log_path.read_text().count("running") if self.log_path.exists() else 0
        self._start("mosquitto", "-c", str(self.directory / "mosquitto.conf"))
        wait_until(
            lambda: self.log_path.read_text().count("running") > before,
            READY_TIMEOUT_S,
            "mosquitto to run",
            logs=self.logs,
        )

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish one message at QoS 1."""
        arguments = ["-q", "1", "-t", topic, *(["-r"] if retain else []), "-m", payload]
        self.namespace.run("mosquitto_pub", *arguments)


class Bfd(Daemon):
    """The BFD process of bgpd, which a daemon in its namespace speaks to through `socket_path`.

    `environment`: ["NAME=VALUE", ...] besides that of this process.
    """

    kind = "bgpd-bfd"

    def __init__(self, namespace: Namespace, *, environment: Sequence[str] = ()) -> None:
        super().__init__(namespace)
        self._environment = environment
        self.socket_path = self.directory / "bfd.sock"
        self.start()

    def start(self) -> None:
        """Start it (again, after `kill`)."""
        process = self._start("env", *self._environment, sys.executable, "-m", "bgpd.bfd", str(self.socket_path))
        self._wait_for_socket(self.socket_path, process)

    def reload(self) -> None:
        """Send SIGHUP: it becomes the version that is installed."""
        self.processes[-1].send_signal(signal.SIGHUP)


class Bgpd(Daemon):
    """bgpd itself. What the TOML text lacks of [api], [bfd] and [state] is in the private directory.

    `form`: the folder that has its code (labs/forms.py); None: as it is for this process. A BFD process that listens on
    `bfd_socket_path` is one that it speaks to.
    """

    kind = "bgpd"

    def __init__(self, namespace: Namespace, config: str, *, wait: bool = True, form: Path | None = None) -> None:
        super().__init__(namespace)
        self.program = [*(form_environment(form) if form else ()), sys.executable, "-m", "bgpd"]
        self.config_path = self.directory / "bgpd.toml"
        self.socket_path = self.directory / "bgpd.sock"
        self.bfd_socket_path = self.directory / "bfd.sock"
        self.write_config(config)
        self.start(wait=wait)

    def write_config(self, config: str) -> None:
        """Write the configuration file, all at once; a running daemon reads it at `reload`."""
        if "[api]" not in config:
            config += "\n[api]\n"
        if "socket =" not in config.partition("[api]\n")[2].partition("\n[")[0]:
            config = config.replace("[api]\n", f'[api]\nsocket = "{self.socket_path}"\n')
        if "[bfd]" not in config:
            config += f'\n[bfd]\nsocket = "{self.bfd_socket_path}"\n'
        if "[state]" not in config:
            config += f'\n[state]\ndirectory = "{self.directory}/state"\n'
        new = self.config_path.with_suffix(".new")
        new.write_text(config)
        new.replace(self.config_path)

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon (again, after `kill`) in the environment of its unit, and wait until its API answers."""
        command = (*self.program, "run", "--config", str(self.config_path))
        process = self._start("env", *unit_environment(), *command)
        if wait:
            self._wait_for_socket(self.socket_path, process)

    def terminate(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """End the daemon and keep its directory; returns the exit code."""
        return self.processes[-1].stop(number, timeout_s)

    def reload(self) -> None:
        """Send SIGHUP: read the configuration again."""
        self.processes[-1].send_signal(signal.SIGHUP)

    def cli(self, *arguments: str, check: bool = True, timeout_s: float = 30.0) -> str:
        """Run `bgpd ARGUMENTS` against this daemon's socket and return what it prints."""
        environment = ["env", f"BGPD_SOCKET={self.socket_path}"]
        return run_command([*environment, *self.program, *arguments], check=check, timeout_s=timeout_s)

    def show(self, *arguments: str) -> Any:
        """The object of `bgpd show ARGUMENTS --json`."""
        return _parse_json(self.cli("show", *arguments, "--json"), f"show {' '.join(arguments)}")

    def established(self) -> list[str]:
        """The names of the neighbors whose session is established."""
        return sorted(n["name"] for n in self.show("neighbors") if n["state"] == "established")


def unit_environment() -> list[str]:
    """What the service unit adds to the environment: ["NAME=VALUE", ...]."""
    lines = (REPOSITORY / "systemd/bgpd.service").read_text().splitlines()
    return [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]


def _parse_json(text: str, command: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LabError(f"{command}: not JSON: {text[:500]}") from error
