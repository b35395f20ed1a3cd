"""Asserting which foreseeable failure it was: by its code, as a script would tell it."""

from __future__ import annotations

from types import TracebackType

import pytest

from support.errors import Error


class _Raises:
    def __init__(self, code: str, match: str | None) -> None:
        self._code = code
        self._context = pytest.raises(Error, match=match)

    def __enter__(self) -> pytest.ExceptionInfo[Error]:
        self._raised = self._context.__enter__()
        return self._raised

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        suppressed = self._context.__exit__(kind, error, traceback)
        if suppressed:
            assert self._raised.value.code == self._code
        return suppressed


def raises(code: str, match: str | None = None) -> _Raises:
    """Fail unless an Error of this code is raised, whose text matches the regular expression `match`."""
    return _Raises(code, match)
