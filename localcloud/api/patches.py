"""How moto is changed: its classes get other methods, once, before the server starts.

moto finds an operation by the method's name on its response class and the state in its backend class, so both can be
replaced or added to from outside. Subclassing was rejected: moto builds its backends itself, from these very classes.

Each replacement stands under the decorator that names what it replaces:

    @patch(EBSBackend.delete_volume, wraps=True)
    def delete_volume(self, original, backend, volume_id): ...

Importing such a module changes nothing yet; REGISTRY lists what would be, and `apply` does it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from moto.core.exceptions import ServiceException

log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Patch:
    """A change of one attribute of a class of moto's; `original` is what it was, None for one that moto lacks.

    With `wraps` the function that takes its place gets the original as its first argument.
    """

    owner: type
    name: str
    original: Any
    function: Callable[..., Any]
    wraps: bool = False


# Everything that may be changed, in the order in which the modules were imported.
REGISTRY: list[Patch] = []


def patch(target: Any, *, wraps: bool = False) -> Callable[[Function], Function]:
    """Declare that a function takes the place of a method (or property) of moto's, named as CLASS.METHOD."""
    method = getattr(target, "fget", target)
    owner = getattr(sys.modules[method.__module__], method.__qualname__.rpartition(".")[0])

    def declare(function: Function) -> Function:
        REGISTRY.append(Patch(owner, method.__name__, target, function, wraps))
        return function

    return declare


def add(owner: type) -> Callable[[Function], Function]:
    """Declare that a function becomes a method, of its own name, that a class of moto's lacks.

    Raises AttributeError when the class has it by now: then the function is not needed any more.
    """

    def declare(function: Function) -> Function:
        if hasattr(owner, function.__name__):
            raise AttributeError(f"moto's {owner.__name__} has {function.__name__} by now: use it")
        REGISTRY.append(Patch(owner, function.__name__, None, function))
        return function

    return declare


def apply(*holders: Any) -> None:
    """Make the changes that a module's functions, or an object's methods, are declared to be."""
    changes: dict[str, list[Patch]] = {}
    for change in REGISTRY:
        changes.setdefault(change.function.__name__, []).append(change)
    for holder in holders:
        for name in changes.keys() & {*vars(holder), *vars(type(holder))}:
            function = getattr(holder, name)
            for change in changes[name]:
                if getattr(function, "__func__", function) is change.function:
                    setattr(change.owner, change.name, _method(function, change))


def _method(function: Any, change: Patch) -> Any:
    def method(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*((change.original,) if change.wraps else ()), owner, *args, **kwargs)

    return property(method) if isinstance(change.original, property) else method


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
