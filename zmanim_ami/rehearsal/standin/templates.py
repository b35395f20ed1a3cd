"""Rendering templates in which every name must be given."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined

# What is rendered is shell, TOML, specs and configuration, never HTML.
_ENVIRONMENT = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False)  # noqa: S701


def render(template: str, **values: object) -> str:
    """Return `template` with `values` filled in. Raises jinja2.UndefinedError for a name that has no value."""
    return _ENVIRONMENT.from_string(template).render(values)


def copy_rendered(source: Path, destination: Path, **values: object) -> None:
    """Copy the tree `source` into `destination`, names rendered; of files named X.j2 the rendered text becomes X.

    Files keep their permission bits and get this process's owner. Existing files are replaced, not written through.
    """
    for path in sorted(source.rglob("*")):
        target = destination / render(str(path.relative_to(source)), **values)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        content = path.read_bytes()
        if path.suffix == ".j2":
            target, content = target.with_suffix(""), render(path.read_text(), **values).encode()
        target.unlink(missing_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
