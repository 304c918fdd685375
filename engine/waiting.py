"""Takes that were asked for and still listen: each forks once the audio sent before its trigger is heard.

Between a session, which takes the commands, and its listener, which must not run past where a take forks: so a take
goes on from the same sample however the audio came. An answer listens until shortly before its own start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .events import TakeMode, TakeRequest
from .listener import Listener


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    request: TakeRequest
    mark: int  # the listener's enqueued samples at the trigger
    fork_position: int | None  # host; None: as soon as what was sent is heard


class WaitingTakes:
    """Those of one session, by number. Decode thread."""

    def __init__(self, listener: Listener, *, answer_lead_samples: int) -> None:
        """`answer_lead_samples`: host samples before its start at which an answer stops listening."""
        self._listener = listener
        self._lead = answer_lead_samples
        self._takes: dict[int, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._takes)

    def __contains__(self, take: int) -> bool:
        return take in self._takes

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._takes))

    def __getitem__(self, take: int) -> TakeRequest:
        return self._takes[take].request

    @property
    def requests(self) -> list[TakeRequest]:
        """As they are now, in the order in which they came."""
        return [entry.request for entry in self._takes.values()]

    def put(self, request: TakeRequest) -> None:
        """One that forks once the audio sent so far is heard."""
        self._put(request, self._listener.enqueued_samples)

    def move(self, take: int, start_position: int, end_position: int | None) -> None:
        """It starts and ends elsewhere; an answer listens accordingly."""
        entry = self._takes[take]
        self._put(replace(entry.request, start_position=start_position, end_position=end_position), entry.mark)

    def change(self, take: int, change: Callable[[TakeRequest], TakeRequest]) -> None:
        """What it is asked to do, but not when it forks. Raises what `change` raises."""
        entry = self._takes[take]
        self._takes[take] = replace(entry, request=change(entry.request))

    def drop(self, take: int) -> None:
        """Forget it, if it is there."""
        self._takes.pop(take, None)

    def ready(self, head: Callable[[TakeRequest], int]) -> list[TakeRequest]:
        """Those that may fork now; `head` is the play head to a request."""
        return [entry.request for entry in self._takes.values() if self._may_fork(entry, head)]

    def stops(self) -> list[int]:
        """Where listening must not run past before a take has forked, in done samples."""
        end, done = self._listener.end_position, self._listener.done_samples
        stops = []
        for entry in self._takes.values():
            stops.append(entry.mark)
            if entry.fork_position is not None and end is not None:
                stops.append(done + entry.fork_position - end)
        return stops

    def _put(self, request: TakeRequest, mark: int) -> None:
        fork = request.start_position - self._lead if request.mode is TakeMode.ANSWER else None
        self._takes[request.take] = _Waiting(request=request, mark=mark, fork_position=fork)

    def _may_fork(self, entry: _Waiting, head: Callable[[TakeRequest], int]) -> bool:
        listener = self._listener
        if listener.done_samples < entry.mark:
            return False
        if entry.fork_position is None:
            return True
        heard = listener.end_position
        if heard is not None and heard >= entry.fork_position:
            return True
        return listener.pending_samples == 0 and head(entry.request) >= entry.fork_position
