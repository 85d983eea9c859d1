"""What long work tells its caller while it runs, and how the caller stops it.

A piece of long work takes two callables: `Listener`, called with `Progress` events, and `Stop`, asked now and then.
Both survive the way into another process (`mip2mcu.parallel` carries them). Nothing here knows what the work is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """One event of a running solve or of a run of many solves.

    stage       what is being worked on, for people ("pair 3-8: margin")
    incumbent   objective of the best solution so far; None before the first
    bound       proved bound on the objective; None before the first
    seconds     since the stage began
    done, total finished and all parts of the run; 0 of 0 inside a single solve
    """

    stage: str
    incumbent: float | None = None
    bound: float | None = None
    seconds: float = 0.0
    done: int = 0
    total: int = 0

    @property
    def gap(self) -> float | None:
        """Relative distance of incumbent and bound, |incumbent - bound| / |incumbent|; None while one is missing."""
        return relative_gap(self.incumbent, self.bound)


Listener: TypeAlias = Callable[[Progress], None]
Stop: TypeAlias = Callable[[], bool]


def relative_gap(incumbent: float | None, bound: float | None) -> float | None:
    """``|incumbent - bound| / |incumbent|``, 0 where they agree; None where one is missing or the incumbent is 0."""
    if incumbent is None or bound is None:
        return None
    if incumbent == bound:
        return 0.0
    return abs(incumbent - bound) / abs(incumbent) if incumbent else None


def silent(_event: Progress) -> None:
    """A listener that does not listen."""


def never() -> bool:
    """A stop that never comes."""
    return False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """A `Stop` that turns true at the first Ctrl-C; a second Ctrl-C raises KeyboardInterrupt as usual.

    Python delivers signals to the main thread only: elsewhere the flag stays false and Ctrl-C is not caught.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
