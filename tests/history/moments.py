"""What a history says of random moments beside what was shown then: of a table of any kind."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest

from bgpd.history.listings import AskedTable, table
from bgpd.history.reading import NotKnown
from bgpd.history.recorder import History
from bgpd.history.segments import DIRECTORY, known_from, segments_of
from bgpd.model.views.explained import PastTableView
from bgpd.model.views.queries import PastTableQuery
from tests.history.rig import write_out

BEGAN = 1_700_000_000.0
"""When the first process starts."""
Act = tuple[float, Callable[[], None]]
"""Something that may happen, with its weight among all that may."""


class RecordedMoments(ABC):
    """One process after the other, with its history in `directory`. `states` is what was shown at each time.

    `max_bytes` is how large the history may become.
    """

    history: History

    def __init__(self, directory: Path, *, seed: int = 0, max_bytes: int = 1 << 26) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.now = BEGAN
        self.states: dict[float, object] = {}
        self.max_bytes = max_bytes
        self.start()

    @abstractmethod
    def start(self) -> None:
        """A process that begins anew, with its `history`."""

    @abstractmethod
    def base(self) -> None:
        """All is said; something happens meanwhile."""

    @abstractmethod
    def act(self) -> None:
        """Something happens, and is over before the next second."""

    @abstractmethod
    def said(self, at: float) -> object:
        """What the history says of a moment, as `states` has it. Raises: NotKnown."""

    def one_of(self, acts: list[Act]) -> None:
        """Do one of these."""
        weights, functions = zip(*acts)
        self.random.choices(functions, weights)[0]()

    def write(self) -> None:
        """Have all that was gathered written."""
        write_out(self.history)

    def crash(self) -> None:
        """Another process begins anew; all that this one knew was written."""
        self.write()
        self.start()


def then(path: Path, kind: str, at: float, *, limit: int = 1000, **fields: object) -> PastTableView:
    """A table of a moment. Raises: NotKnown."""
    query = PastTableQuery(at=at, limit=limit, **fields)  # type: ignore[arg-type]
    return table(path, AskedTable(kind=kind, query=query))


def check_each_moment(recorded: RecordedMoments, *, more_states_than: int) -> None:
    """Of 120 acts, which are to make more different states than that."""
    for _ in range(120):
        recorded.act()
    recorded.write()
    assert len({repr(state) for state in recorded.states.values()}) > more_states_than
    for at, state in list(recorded.states.items())[::7]:
        assert recorded.said(at) == state, f"{at - BEGAN:g}"


def check_any_base(recorded: RecordedMoments) -> None:
    """Of 400 acts, after which the history has not room for all: what is left is right, and the rest is not known."""
    for _ in range(400):
        if recorded.history.wants_base:
            recorded.base()
        recorded.act()
    recorded.write()
    since = known_from(segments_of(recorded.directory / DIRECTORY))
    assert since is not None
    assert since > min(recorded.states), "nothing was dropped"
    for at, state in list(recorded.states.items())[::40]:
        if at < since:
            with pytest.raises(NotKnown, match="begins at"):
                recorded.said(at)
        else:
            assert recorded.said(at) == state
