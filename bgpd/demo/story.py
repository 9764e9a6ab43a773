"""What the demonstration shows, step by step."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from bgpd.demo.namespaces import StepFailed, remove_left_behind
from bgpd.demo.network import HOSTS, LEAVES, PODS, Network
from bgpd.demo.traffic import Ping

CONVERGED_S = 60.0
"""How long sessions and routes may take on a slow machine."""
SETTLE_S = 1.0
"""How long packets are counted after an event."""
TRY = (
    ("bgpd top", "the host on one live screen; q leaves it"),
    ("bgpd what-if --down leaf1", "what would become of its routes without leaf1"),
    (f"bgpd explain {PODS['host2']}", "the whole path of the other pod, and why"),
)


def tell(story: Callable[[Network], None], *, prompt: bool) -> None:
    """Build the network, show `story`, and with `prompt` leave the user in a shell of host1; then remove all.

    Raises: StepFailed: with what to do.
    """
    _look_first()
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, _end)
    with Network() as network:
        story(network)
        if prompt:
            _offer_shell(network)
    _say("", "All of it is removed.")


def show(network: Network) -> None:
    """The steps. Raises: StepFailed."""
    began = time.monotonic()
    _say(
        "Two hosts, two leaves between them, a pod on each host: network namespaces of this machine, bgpd in all four."
    )
    _say("", f"    pod1 {PODS['host1']} - host1 = leaf1, leaf2 = host2 - pod2 {PODS['host2']}", "")
    network.build()
    network.start()
    _wait(network, lambda: _is_converged(network), "sessions and routes")
    _step("Four sessions are up, and each host has the other's pod by both leaves", time.monotonic() - began)
    _quote(network.cli("host1", "show", "fib"))

    sent, lost = _under_ping(network, lambda: _set_link(network, "leaf1", "down"))
    _step(f"leaf1's links went down under a ping of 100 packets a second: {lost} of {sent} packets were lost")
    _quote(network.cli("host1", "show", "fib"))
    _set_link(network, "leaf1", "up")
    _wait(network, lambda: _is_converged(network), "leaf1 to be back")
    _step("leaf1 is back")

    before = _established_since(network)
    sent, lost = _under_ping(network, lambda: _upgrade(network))
    is_same = _established_since(network) == before
    _step(
        f"host1's bgpd was replaced by a new process (bgpd upgrade): {lost} of {sent} packets were lost, "
        f"and its sessions {'went on: no leaf noticed' if is_same else 'began anew'}"
    )
    _step("bgpd explain says why a packet takes its way")
    _quote(network.cli("host1", "explain", PODS["host2"]), lines=6)


def _look_first() -> None:
    """Raises: StepFailed: it cannot be done here."""
    if os.geteuid():
        raise StepFailed("the demonstration makes network namespaces, which only root may", "sudo bgpd demo")
    for program in ("ip", "ping"):
        if shutil.which(program) is None:
            package = {"ip": "iproute2", "ping": "iputils-ping"}[program]
            raise StepFailed(f"there is no program {program}", f"apt-get install {package}")
    for name in remove_left_behind():
        _say(f"(removed {name}, which an earlier demonstration left behind)")


def _is_converged(network: Network) -> bool:
    for host in HOSTS:
        states = [view["state"] for view in network.show(host, "neighbors")]
        if states != ["established"] * len(LEAVES):
            return False
    return all(len(_next_hops(network, host)) == len(LEAVES) for host in HOSTS)


def _next_hops(network: Network, host: str) -> list[object]:
    """By which next hops the kernel of a host sends what is for the other one's pod."""
    other = next(address for name, address in PODS.items() if name != host)
    views = network.show(host, "fib", "--prefix", f"{other}/32")
    return [hop for view in views if view["state"] == "installed" for hop in view["next_hops"]]


def _wait(network: Network, is_there: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + CONVERGED_S
    while True:
        network.check_daemons()
        try:
            if is_there():
                return
        except StepFailed:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise StepFailed(f"waited {CONVERGED_S:.0f} s in vain for {what}", "is the machine very busy? Try again")
        time.sleep(0.1)


def _under_ping(network: Network, event: Callable[[], None]) -> tuple[int, int]:
    """Packets from pod1 to pod2, sent and lost, while `event` happens and a second after it."""
    ping = Ping(network.namespaces, "pod1", PODS["host2"], network.directory)
    ping.start()
    event()
    time.sleep(SETTLE_S)
    return ping.stop()


def _set_link(network: Network, leaf: str, state: str) -> None:
    network.namespaces.ip(leaf, *(f"link set {host} {state}" for host in HOSTS))


def _established_since(network: Network) -> list[float]:
    return [view["since"] for view in network.show("host1", "neighbors")]


def _upgrade(network: Network) -> None:
    network.cli("host1", "upgrade")


def _offer_shell(network: Network) -> None:
    _say("", "This shell is on host1. Three things to try:", "")
    for command, what in TRY:
        _say(f"    {command:<28} {what}")
    _say("", "exit (or Ctrl-D) ends the demonstration and removes all of it.", "")
    environment = network.environment("host1") | {"PS1": "host1# "}
    shell = ["bash", "--norc", "-i"] if shutil.which("bash") else ["sh", "-i"]
    # Ctrl-C is for the commands of the shell. They would inherit SIG_IGN, so that it would not end them.
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        subprocess.run(network.namespaces.command("host1", *shell), env=environment, check=False)
    finally:
        signal.signal(signal.SIGINT, former)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _step(text: str, seconds: float | None = None) -> None:
    _say(f"* {text}{f' ({seconds:.1f} s)' if seconds is not None else ''}")


def _quote(text: str, *, lines: int = 0) -> None:
    shown = [line for line in text.splitlines() if line.strip()]
    _say(*(f"    {line}" for line in (shown[:lines] if lines else shown)), "")


def _say(*lines: str) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()
