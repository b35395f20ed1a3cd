"""The page itself: one file that asks nobody for anything, and in which no text of others can become more than text."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from zmanim_ami.evidence.content import Page

_LOOK = Path(__file__).with_name("look")
# Characters that reorder, hide or end what stands beside them: shown by their number. A line's end is none of them.
_HIDING = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def render(page: Page) -> str:
    """Return the page as HTML."""
    style, script = ((_LOOK / name).read_text("utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(_LOOK),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own two files, and no word of anybody else's: the policy lets nothing run but these bytes.
    ours = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return environment.get_template("page.html").render(page=page, policy=_policy(style, script), **ours)


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy under which nothing is fetched, and only our own style and script count."""
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _visible(value: object) -> object:
    """Return a value with every character that hides something shown as its number."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if value.isascii() and value.isprintable():
        return value
    return "".join(
        f"[U+{ord(each):04X}]" if unicodedata.category(each) in _HIDING and each not in "\n\t" else each
        for each in value
    )
