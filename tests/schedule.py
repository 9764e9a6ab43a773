"""In which order workers take the tests in namespaces: file by file, the long files first.

The tests of one file share a fabric and daemons. Left to itself, xdist begins with the files that have the most tests,
and at the end one worker is busy for minutes with a few long ones, while the other has nothing left.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

ONE_BY_ONE = ("tests/labs/test_main.py",)
"""Files whose tests share nothing, and may take a minute each."""
LONG_FILES = (
    *ONE_BY_ONE,
    "tests/daemon/test_handover.py",
    "tests/daemon/test_drain.py",
    "tests/chaos/",
    "tests/installed/",
    "tests/daemon/test_page.py",
    "tests/daemon/test_upgrade.py",
    "tests/interop/",
    "tests/daemon/",
)
"""How the names of files begin, in the order in which they are taken; then come all others."""


class LongFilesFirst(LoadFileScheduling):  # type: ignore[misc]
    """Gives each worker a file, or one test of `ONE_BY_ONE`."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return nodeid if file in ONE_BY_ONE else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        """`workqueue` has the files that nobody has taken yet, those with the most tests first."""
        self.workqueue.move_to_end(min(self.workqueue, key=rank), last=False)
        super()._assign_work_unit(node)


def rank(name: str) -> int:
    """What comes first has the least."""
    return next((number for number, begin in enumerate(LONG_FILES) if name.startswith(begin)), len(LONG_FILES))
