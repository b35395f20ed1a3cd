"""How the hooks change moto: by giving its classes other methods, once, before the server starts.

moto finds an operation by the method name on its response class and the state in its backend class, so both can be
replaced or added from outside. Subclassing was rejected: moto builds its backends itself, from these very classes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from moto.core.exceptions import ServiceException

log = logging.getLogger(__name__)


def replace(owner: type, name: str, method: Any) -> None:
    """Give a moto class another method (or property) of that name.

    Raises AttributeError when the class has none: then moto has changed and the hook no longer holds.
    """
    getattr(owner, name)
    setattr(owner, name, method)


def add(owner: type, name: str, method: Any) -> None:
    """Give a moto class a method that it lacks. Raises AttributeError when it has it: then the hook is not needed."""
    if hasattr(owner, name):
        raise AttributeError(f"moto's {owner.__name__} has {name} by now: use it")
    setattr(owner, name, method)


def in_background(name: str, work: Callable[[], None]) -> None:
    """Do the slow part of an operation in a thread of its own; what it raises goes to the server's log."""

    def body() -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed", name)

    threading.Thread(target=body, name=name, daemon=True).start()


class ApiError(ServiceException):
    """An error that the API answers with: an AWS error code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
