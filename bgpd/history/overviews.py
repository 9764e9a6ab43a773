"""The overview of the host at an earlier time, from the files of the history alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bgpd.history.course import Course
from bgpd.history.reading import NotKnown, Progress, read_into, unsaid, whether_it_ran, why_not_known
from bgpd.history.records import AnyRecord, BaseEnded, Ended, Lost, Mark, Seen, Started
from bgpd.history.segments import known_from
from bgpd.history.wanted import OfKind
from bgpd.model.views.explained import PastOverviewView
from bgpd.model.views.host import OverviewView

_NOT_LOOKED = "nobody had looked yet"


class _Overviews(Course):
    """The last one that was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen | None = None

    def take(self, record: AnyRecord) -> None:
        super().take(record)
        match record:
            case Seen():
                self.seen, self.problem = record, ""
            case Started(is_adopting=False):
                self.seen, self.problem = None, _NOT_LOOKED
            case BaseEnded() if self.seen is None:
                self.problem = _NOT_LOOKED
            case Lost():
                self.damaged(record.reason)
            case Ended():
                self._ended(record)


def overview(state: Path, at: float, progress: Progress = unsaid) -> PastOverviewView:
    """As it was at a time of day, or some seconds before. Raises: NotKnown."""
    wanted = OfKind(Mark.OVERVIEW)
    segments, (found,) = read_into(lambda: [_Overviews()], state, wanted, since=at, until=at, progress=progress)
    if found.problem or found.seen is None:
        raise NotKnown(why_not_known(found.problem, known_from(segments), at))
    seen = found.seen
    view = msgspec.json.decode(seen.view, type=OverviewView)
    return PastOverviewView(at=at, looked_at=seen.looked_at, remark=whether_it_ran(found), overview=view)
