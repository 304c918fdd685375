"""Speaker: what a session says, as messages for its owner and for listeners.

Between bridge/session.py and the outbox: it knows which payloads the owner wants, which topic a message has, and
the byte order of payloads.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from attacca.engine.events import ChunkEvent

from .protocol import Chunk, CodesChunk, Hello, Message, Status, Want
from .queues import Outgoing

Send = Callable[[Outgoing], None]


class Speaker:
    """Decode thread only."""

    def __init__(self, session: int, hello: Hello, send: Send) -> None:
        self._session, self._hello, self._send = session, hello, send

    def say(
        self,
        message: Message,
        payload: bytes | None = None,
        *,
        topic: str | None = None,
        to_owner: bool = True,
        epoch: int | None = None,
    ) -> None:
        """Hands a message to the I/O thread; see `Outgoing` for the arguments."""
        self._send(
            Outgoing(
                session=self._session,
                message=message,
                payload=payload,
                to_owner=to_owner,
                topic=topic,
                epoch=epoch,
            )
        )

    def chunk(self, event: ChunkEvent, ppq: float) -> None:
        """A chunk's samples and, once it is committed, its codes; `ppq` of the first sample."""
        chunk = Chunk(
            session=self._session,
            epoch=event.epoch,
            take=event.take,
            seq=event.seq,
            position=event.position,
            ppq=ppq,
            samples=event.samples,
            channels=self._hello.channels,
            first_frame=event.first_frame,
            frames=event.frames,
            committed=event.committed,
            last=event.last,
        )
        pcm = np.ascontiguousarray(event.pcm, dtype="<f4").tobytes()
        self.say(chunk, pcm, topic="pcm", to_owner=self._hello.want is not Want.CODES, epoch=event.epoch)
        if not event.committed or not event.frames:
            return
        codes = CodesChunk(
            session=self._session,
            epoch=event.epoch,
            take=event.take,
            seq=event.seq,
            first_frame=event.first_frame,
            frames=event.frames,
            num_codebooks=event.codes.shape[1],
            start_position=event.start_position_of_first_frame,
        )
        payload = np.ascontiguousarray(event.codes, dtype="<u2").tobytes()
        self.say(codes, payload, topic="codes", to_owner=self._hello.want is not Want.PCM, epoch=event.epoch)

    def over(self, take: int, epoch: int, position: int) -> None:
        """Tells that a take which the engine never had, or has lost, is over: an empty last chunk."""
        chunk = Chunk(
            session=self._session,
            epoch=epoch,
            take=take,
            seq=0,
            position=position,
            ppq=0.0,
            samples=0,
            channels=self._hello.channels,
            first_frame=0,
            frames=0,
            committed=True,
            last=True,
        )
        self.say(chunk, b"", topic="pcm")


def with_tally(status: Status, dropped: int, bad: int) -> Status:
    """A status with what the I/O thread counted of the session added."""
    return msgspec.structs.replace(status, dropped_messages=dropped, bad_messages=status.bad_messages + bad)
