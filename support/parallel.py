"""Slow things side by side, which still stop together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from support.process import stop_children_until

Result = TypeVar("Result")


def side_by_side(works: Sequence[Callable[[], Result]], at_once: int | None = None) -> list[Result]:
    """Run each of `works` in a thread, `at_once` of them (default: all), and return their results in that order.

    When one fails, or we are interrupted, the children that the others wait for are stopped, and the first failure is
    raised. An interrupt reaches only the main thread: without this, the others' children would run on.
    """
    with ThreadPoolExecutor(max_workers=at_once or len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()  # what has not begun
            stop_children_until(lambda: all(future.done() for future in futures))
            raise
