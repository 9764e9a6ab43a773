"""Python runs this first in a daemon under test that has its directory on PYTHONPATH: it notes which functions run.

SIGUSR1 begins a note (an empty file that BGPD_TRACE names), SIGUSR2 writes it: "FILE FUNCTION" in the order of their
first call, of the event loop's thread and of what it has done in another one (IN_A_THREAD). What a background look
does on its own (BACKGROUND) is left out: it would come into the note of whatever happens at that time.
"""

import os
import signal
import sys
from concurrent.futures import thread

ROOT = "/bgpd/"
BACKGROUND = {
    ("bundles.py", "Bundles.run"),
    ("history_bases.py", "say_bases"),
    ("overview_records.py", "OverviewRecords.look"),
    ("overview_records.py", "OverviewRecords.run"),
    ("kernel/speeds.py", "Speeds._start_thread"),
    ("kernel/speeds.py", "Speeds._take"),
    ("twins.py", "Twins.run"),
    ("readiness.py", "Readiness._review"),
    ("readiness.py", "Readiness.run"),
    ("consistency.py", "Consistency.round"),
    ("consistency.py", "Consistency.look_again"),
    ("consistency.py", "Consistency.run"),
    ("dependencies.py", "UsedServers.run"),
    ("speaker/speaker.py", "Speaker.run"),
    ("workload/feed/mqtt.py", "MqttSource._tick"),
}
IN_A_THREAD = {"Configuration._read"}


def place_of(code):
    at = code.co_filename.rfind(ROOT)
    return (code.co_filename[at + len(ROOT) :], code.co_qualname) if at >= 0 else None


def is_background(frame):
    while frame is not None:
        if place_of(frame.f_code) in BACKGROUND:
            return True
        frame = frame.f_back
    return False


def follow(path):
    seen = {}
    is_on = [False]
    run_item = thread._WorkItem.run

    def note(frame, event, _argument):
        if event == "call":
            place = place_of(frame.f_code)
            if place is not None and place not in seen and not is_background(frame):
                seen[place] = None

    def run(item):
        """As concurrent.futures runs it; of asyncio.to_thread, the function is the first argument of its own."""
        first = next(iter(getattr(item.fn, "args", ())), None)
        is_noted = is_on[0] and getattr(first, "__qualname__", "") in IN_A_THREAD
        if is_noted:
            sys.setprofile(note)
        try:
            run_item(item)
        finally:
            if is_noted:
                sys.setprofile(None)

    def write():
        partial = f"{path}.partial"
        with open(partial, "w") as file:
            file.writelines(f"{file_name} {function}\n" for file_name, function in seen)
        os.replace(partial, path)

    def begin(*_):
        seen.clear()
        write()
        is_on[0] = True
        sys.setprofile(note)

    def end(*_):
        is_on[0] = False
        sys.setprofile(None)
        write()

    thread._WorkItem.run = run
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if os.environ.get("BGPD_TRACE"):
    follow(os.environ["BGPD_TRACE"])
