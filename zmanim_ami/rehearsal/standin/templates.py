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
    for path in (path for path in source.rglob("*") if path.is_file()):
        target = destination / render(str(path.relative_to(source)), **values).removesuffix(".j2")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        is_template = path.suffix == ".j2"
        target.write_bytes(render(path.read_text(), **values).encode() if is_template else path.read_bytes())
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
