"""A request under way: the library computes on a thread, and what it tells comes through a queue."""
from __future__ import annotations

import ctypes
import queue
import threading
from dataclasses import dataclass
from typing import Callable, Iterator, Union

from . import _interface as c
from ._handles import Context
from ._library import lib
from ._request import Request
from .picture import Picture


@dataclass(frozen=True)
class Progress:
    """How far a call is.

    stage: "load", "text encoders", "denoise", "decode"; step of steps while denoising, otherwise 0 of 0; image of
    images, from 0; stage_fraction and fraction (of the whole call, by work), 0 to 1; seconds since it began;
    seconds_left: an estimate, None while unknown; preview: the picture that the model expects now, every preview_every
    steps."""
    stage: str
    step: int
    steps: int
    image: int
    images: int
    stage_fraction: float
    fraction: float
    seconds: float
    seconds_left: float | None
    preview: Picture | None


Event = Union[Progress, Picture]


def _progress(now: c.flux1_progress, request: Request) -> Progress:
    preview = Picture(now.preview.contents, request, preview=True) if now.preview else None
    return Progress(now.stage_name.decode(), now.step, now.steps, now.image, now.images, now.stage_fraction, now.fraction,
                    now.seconds, now.seconds_left if now.seconds_left >= 0 else None, preview)


class Job:
    """The thread's side. It refers to no Stream, so that a Stream which nobody holds any more is noticed."""

    def __init__(self, context: Context, request: Request, finished: Callable[[], None]) -> None:
        self.context, self.request, self.finished = context, request, finished
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: the end
        self.error: BaseException | None = None
        # kept here as long as the library may call them
        self.callbacks = (c.flux1_progress_fn(self._on_progress), c.flux1_image_fn(self._on_image))
        request.set(progress=self.callbacks[0], image=self.callbacks[1])
        self.thread = threading.Thread(target=self._run, name="flux1")

    def _run(self) -> None:
        params = self.request.params
        pointers = (ctypes.POINTER(c.flux1_generate_params) * len(params))(*(ctypes.pointer(p) for p in params))
        try:
            self.context.call("flux1_generate_many", self.request.model.handle, pointers, len(params), None)
        except BaseException as e:  # it is raised where the events are taken
            self.error = self.error or e.with_traceback(None)  # whose frames would keep this object, and all it holds
        finally:
            self.request.set(progress=c.flux1_progress_fn(), image=c.flux1_image_fn())
            del self.callbacks
            self.finished()
            self.events.put(None)

    def _tell(self, make: Callable[[], Event]) -> int:
        """Other than 0 cancels: an exception must not pass through the library, and a program that ends does not wait
        for its pictures."""
        try:
            self.events.put(make())
            return not threading.main_thread().is_alive()
        except BaseException as e:
            self.error = e.with_traceback(None)
            return 1

    def _on_progress(self, _user: int | None, now: ctypes._Pointer) -> int:
        return self._tell(lambda: _progress(now.contents, self.request))

    def _on_image(self, _user: int | None, image: ctypes._Pointer) -> int:
        return self._tell(lambda: Picture(image.contents, self.request))


class Stream(Iterator[Event]):
    """The events of a call: Progress, and each Picture as soon as it is decoded. An error is raised where the next event
    would be. close(), the end of a with statement, or letting it go cancels what is not done."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        job.thread.start()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        if self._job is None:
            raise StopIteration
        event = self._job.events.get()
        if event is None:
            job, self._job = self._job, None
            job.thread.join()
            error, job.error = job.error, None
            if error is None:
                raise StopIteration
            try:
                raise error
            finally:
                del error  # its traceback has this frame
        return event

    def close(self) -> None:
        """Cancels the call, unless it has ended, and waits until the library has stopped."""
        job, self._job = self._job, None
        if job is not None:
            job.request.token.cancel()
            job.thread.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        job = getattr(self, "_job", None)
        if job is not None:  # no waiting in a destructor
            job.request.token.cancel()
