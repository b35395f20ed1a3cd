"""What can be chosen, and where each choice was made: dataclasses of settings, read from three places.

A table of pyproject.toml, then `PREFIX_<FIELD>` in the environment, then a task's flag; the later wins. Names that
begin with the prefix are kept for settings: one that is none is refused, for a typing error would choose something
else. An empty variable or flag counts as not given, for that is what CI passes on for a variable that is not set.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from support.errors import BadInput

Value = str | int | bool | tuple[str, ...]


def setting(
    default: Value, help: str, form: str = "", example: str = "", *, limits: tuple[int, int] = (0, 0), **more: object
) -> Any:
    """Describe a field: what it is for, its texts' regular expression, a number's first and last.

    `more` is kept in the field's metadata.
    """
    metadata = {"help": help, "form": form, "example": example, "limits": limits, **more}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Row:
    """One setting as it is shown; `origin` says who chose the value."""

    name: str
    value: Value
    origin: str
    help: str


@dataclass(frozen=True)
class Sources:
    """Where a project's settings are chosen: in the table [tool.NAME], and by variables that begin with NAME_.

    `kinds` are all dataclasses of settings that share these names: whoever reads one of them leaves the others' alone.
    """

    name: str
    kinds: Sequence[type[Any]]

    @property
    def table(self) -> str:
        """The table, as a message names it."""
        return f"[tool.{self.name}] in pyproject.toml"

    def explain(
        self, kind: type[Any], root: Path, environ: Mapping[str, str], flags: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Return every setting of one kind with its value and origin, in the order of the class.

        `root` is the project's, `flags` maps field names to what a task was given. Raises `setting-unknown` and
        `setting-invalid`, which name the key and where it was set.
        """
        prefix = f"{self.name.upper()}_"
        chosen: dict[str, tuple[object, str]] = {}
        for key, value in self._table(root).items():
            chosen[self._known(key, key, self.table)] = (value, self.table)
        for key, value in environ.items():
            if key.startswith(prefix):
                name = self._known(key.removeprefix(prefix).lower(), key, "the environment")
                if value:
                    chosen[name] = (value, key)
        for key, given in (flags or {}).items():
            if given not in (None, "", [], ()):
                flag = "--" + key.replace("_", "-")
                chosen[self._known(key, flag, "the command line")] = (given, flag)
        rows = []
        for item in fields(kind):
            raw, origin = chosen.get(item.name, (item.default, "default"))
            rows.append(Row(item.name, _typed(item, raw, origin), origin, item.metadata["help"]))
        return rows

    def _table(self, root: Path) -> dict[str, object]:
        path = root / "pyproject.toml"
        try:
            table = tomllib.loads(path.read_text()).get("tool", {}).get(self.name, {})
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadInput(
                "pyproject.toml can't be read", code="setting-invalid", expected="TOML", found=str(error)
            ) from error
        if not isinstance(table, dict):
            raise BadInput(
                "the settings are no table", code="setting-invalid", expected=f"[tool.{self.name}]", found=repr(table)
            )
        return table

    def _known(self, name: str, as_written: str, where: str) -> str:
        names = [item.name for kind in self.kinds for item in fields(kind)]
        if name in names:
            return name
        near = difflib.get_close_matches(name, names, n=1)
        raise BadInput(
            f"there is no setting {as_written}",
            code="setting-unknown",
            expected=f"one of {', '.join(names)}",
            found=f"{as_written} in {where}",
            fix=f"did you mean {near[0]}?" if near else "remove it",
        )


def help_for(kind: type[Any], name: str) -> str:
    """Return what the setting `name` of a kind is for, as a task's `--help` says it; empty when it has none."""
    return next((str(item.metadata["help"]) for item in fields(kind) if item.name == name), "")


def _typed(item: Field[Any], raw: object, origin: str) -> Value:
    form, example = re.compile(item.metadata["form"], re.ASCII), item.metadata["example"]
    (low, high), kind = item.metadata["limits"], type(item.default)
    if kind is bool and (isinstance(raw, bool) or raw in ("true", "false")):
        return raw in (True, "true")
    number = int(str(raw)) if type(raw) in (int, str) and re.fullmatch(r"\d{1,9}", str(raw), re.ASCII) else -1
    if kind is int and low <= number <= high:
        return number
    if kind is str and isinstance(raw, str) and (form.fullmatch(raw) or raw == item.default):
        return raw
    if kind is tuple and isinstance(raw, str | list | tuple):
        texts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if all(isinstance(text, str) and form.fullmatch(text) for text in texts):
            return tuple(texts)
    expected = {
        bool: "true or false",
        int: f"a whole number from {low} to {high}",
        # A form that is nothing but its words leaves no other choice.
        str: example if re.fullmatch(r"\w+(\|\w+)+", item.metadata["form"]) else f"text such as {example}",
        tuple: f"a list such as {example}",
    }
    raise BadInput(
        f"the setting {item.name} can't be {raw!r}",
        code="setting-invalid",
        expected=expected[kind],
        found=f"{raw!r} from {origin}",
        fix=f"correct {origin}",
    )
