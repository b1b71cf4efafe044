"""A function over many jobs in spawned processes, results in the order of the jobs.

Processes are spawned, never forked: OpenGL does not survive a fork. Ctrl-C is for the process that
asks; its workers are told to stop, and one whose asker was killed ends by itself.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing.synchronize import Event
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_stop: list[Event] = []  # of this worker; empty in every other process


def spawned_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int
) -> Generator[Result]:
    """Yield ``function(job)`` for every job, some of them ahead of the reader.

    With one worker, or one job, it is called in this process. Closing the generator stops the
    workers at their next :func:`check_stop`.

    Raises:
        BrokenProcessPool: A worker was killed.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(jobs)),
        mp_context=context,
        initializer=_begin_worker,
        initargs=(stop,),
    )
    n_ahead = workers + 2  # enough to keep all busy
    try:
        with _interrupts_ignored():  # the first submissions start the workers, which inherit this
            pending = deque(pool.submit(function, job) for job in jobs[:n_ahead])
        waiting = iter(jobs[n_ahead:])
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, job) for job in islice(waiting, 1))
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def check_stop() -> None:
    """Give up a job that nobody waits for; to be called often by what runs in a worker.

    Raises:
        CancelledError: The results are not wanted any more.
    """
    if _stop and _stop[0].is_set():
        raise CancelledError


def _begin_worker(stop: Event) -> None:
    """Remember how to be stopped, and watch the process that asked."""
    _stop[:] = [stop]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the asking process, then leave."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_ignored() -> Generator[None]:
    """Ctrl-C is lost here; processes started inside never see one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
