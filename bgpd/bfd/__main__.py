"""`python -m bgpd.bfd SOCKET`: the BFD process. It runs beside the daemon, and outlives it (decision 23).

One thread, one epoll, little memory: it imports this package and a few modules of the standard library. Where the
service manager allows it (LimitRTPRIO), the kernel runs it before all that has no real-time priority, so that load of
the host delays no packet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time

from bgpd.bfd import handover
from bgpd.bfd.control import END, ORPHAN_S, REPORT_S, Desired, Key, counts_line, gone_line
from bgpd.bfd.live import Live
from bgpd.bfd.server import AnotherRuns, Server
from bgpd.bfd.sessions import Sessions

PRIORITY = 10
"""Of SCHED_FIFO, 1 to 99; kernel threads that matter have 50."""
NICE = -10
_EVENTS = 16
"""Descriptors of one look at all; the others have their turn at the next."""
_SLOW_DOWN_S = 2.0
"""How long peers are waited for that have to agree to slower timers, before the process becomes its next version."""
_LAST_WORDS = 3
"""How often peers are told AdminDown when the process ends ..."""
_LAST_WORDS_S = 0.05
"""... and the pause between: one may be lost, and would look like a failure."""


class Process:
    """The loop: packets, timers, and the daemon. `listener`: a socket that listens already."""

    def __init__(self, path: str, *, listener: int = -1) -> None:
        self._poller = select.epoll()
        self._sessions = Sessions(self._poller, changed=self._changed, removed=self._removed)
        self._server = Server(
            path, self._poller, greeted=self._greeted, wanted=self._wanted, log=log, descriptor=listener
        )
        self._report_at = self._due = self._alone_until = time.monotonic()
        self._signal, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller.register(self._signal, select.EPOLLIN)
        signal.set_wakeup_fd(writable)
        self._alone_until += ORPHAN_S
        self._becomes_anew_by: float | None = None

    def resume(self, memory: int) -> None:
        """Go on with the sessions of the program that this one was before."""
        try:
            problem = self._sessions.resume(handover.read(memory))
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            handover.close_left_over()
            log(f"cannot go on with all sessions: {problem}; the daemon has them begin anew")

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then peers hear that this end goes down by intention. SIGHUP: become what is
        installed now."""
        sessions, server, poll = self._sessions, self._server, self._poller.poll
        now = time.monotonic()
        while True:
            for descriptor, events in poll(max(0.0, min(sessions.deadline(), self._due) - now), _EVENTS):
                if descriptor == self._signal:
                    if os.read(self._signal, 64).strip(bytes((signal.SIGHUP,))):
                        self._end()
                        return
                    sessions.slow_down()
                    self._becomes_anew_by = self._due = time.monotonic() + _SLOW_DOWN_S
                if not server.handles(descriptor, events):
                    sessions.readable(descriptor)
            now = sessions.tick()
            if self._becomes_anew_by is not None or now >= self._due:
                self._now_and_then(now)

    def _now_and_then(self, now: float) -> None:
        if self._becomes_anew_by is not None and (self._sessions.is_settled or now >= self._becomes_anew_by):
            self._become_anew()
        if now >= self._report_at:
            self._report()
        self._due = self._report_at if self._becomes_anew_by is None else min(self._report_at, self._becomes_anew_by)

    def _report(self) -> None:
        """Again and again: counters for the daemon; and whether there still is one."""
        now = time.monotonic()
        self._report_at = now + REPORT_S
        self._server.listen_again()
        if self._server.has_client:
            self._alone_until = now + ORPHAN_S
            self._server.send(*self._lines())
        elif now >= self._alone_until and self._sessions.all():
            log(f"no daemon for {ORPHAN_S:.0f} s: all sessions end")
            self._sessions.follow({})

    def _lines(self) -> list[str]:
        return [*(live.report().line() for live in self._sessions.all()), counts_line(self._sessions.discarded)]

    def _greeted(self) -> None:
        self._server.send(*self._lines(), END)

    def _wanted(self, all_desired: dict[Key, Desired]) -> None:
        self._sessions.follow(all_desired)
        self._server.send(*self._lines(), END)

    def _changed(self, live: Live) -> None:
        self._server.send(live.report().line())

    def _removed(self, key: Key) -> None:
        self._server.send(gone_line(key))

    def _become_anew(self) -> None:
        """Unless a signal has come since the last look, which the next program would not hear of."""
        signal.pthread_sigmask(signal.SIG_BLOCK, handover.SIGNALS)
        try:
            if not select.select([self._signal], [], [], 0)[0]:
                log("becomes the program that is installed now; the sessions go on")
                descriptors = self._sessions.descriptors()
                handover.execute(self._sessions.saved(), descriptors, listener=self._server.descriptor)
        except OSError as error:
            log(f"goes on as it is: {error}")
            self._becomes_anew_by = None
            self._sessions.speed_up()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handover.SIGNALS)

    def _end(self) -> None:
        for _ in range(_LAST_WORDS):
            self._sessions.end_all()
            time.sleep(_LAST_WORDS_S)
        self._server.close()


def log(text: str) -> None:
    """A line for people, if anybody reads it: a reader that stops must not hold up packets. The service manager adds
    the time."""
    with contextlib.suppress(OSError, ValueError):
        ready = select.poll()
        ready.register(sys.stderr, select.POLLOUT)
        if ready.poll(0):  # it takes PIPE_BUF bytes then without a wait
            print(f"bgpd-bfd: {text}", file=sys.stderr, flush=True)


def take_precedence() -> str:
    """Have the kernel run this process first; what it granted."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
        return f"real-time priority {PRIORITY}"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        return f"nice {NICE}"
    return "no precedence over other processes: LimitRTPRIO is 0"


def main() -> int:
    """Entry point; the exit code."""
    path, *rest = sys.argv[1:] or [""]
    if path == "--check":
        return 0
    if not path or (rest and rest[0] != handover.OPTION):
        print("usage: python -m bgpd.bfd SOCKET, the one of [bfd] in bgpd.toml", file=sys.stderr)
        return 2
    memory, listener = map(int, rest[1:]) if rest else (-1, -1)
    for number in handover.SIGNALS:
        signal.signal(number, lambda *_: None)
    try:
        process = Process(path, listener=listener)
    except (AnotherRuns, OSError) as error:
        log(f"cannot start: {error} ({path})")
        return 1
    if rest:
        process.resume(memory)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handover.SIGNALS)
    log(f"listens on {path}, with {take_precedence()}")
    gc.collect()
    gc.freeze()
    process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
