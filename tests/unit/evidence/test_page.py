"""No text of others is ever more than text on the page, and the page asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from tests.support.stages.evidence import account, rehearsal, report
from zmanim_ami.evidence import content, page
from zmanim_ami.evidence.sources import Read, Sources

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</style><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!-- ", "-->", "]]>", "&lt;script&gt;", "{{ 7 * 7 }}", "{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.exe",
    "\x1b[2Jgone\x00",
    "<svg onload=alert(1)>",
)  # fmt: skip


class _Skeleton(HTMLParser):
    """The tags and the names of their attributes; and what stands in the attributes that can do something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def skeleton(*contents: dict[str, Any]) -> _Skeleton:
    parsed = _Skeleton()
    given = [*(Read("a file", each, "00") for each in contents), None, None, None]
    parsed.feed(page.render(content.build(Sources(Path("x"), given[0], given[1], given[2]))))
    parsed.close()
    return parsed


def everywhere(value: Any, text: str) -> Any:
    """Return JSON in which every text is this one, but for what decides which rows there are."""
    if isinstance(value, dict):
        kept = {"kind", "ami_id", "before", "unit"}
        return {name: each if name in kept else everywhere(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each, text) for each in value]
    return text if isinstance(value, str) and value else value


def hostile(text: str) -> list[dict[str, Any]]:
    """Return the sources of a page in which that text stands wherever a text can."""
    verification = everywhere(report(), text)
    for number, check in enumerate(verification["checks"]):
        check["name"] = f"{text}{number}"
    verification["versions"] = {f"{text}kernel": text}
    verification["facts"]["chart"] = report()["facts"]["chart"]
    rehearsed = everywhere(rehearsal(), text)
    rehearsed["published"] = {f"/{text}": text}
    rehearsed["bad_day"] = {text: 1}
    rehearsed["error"] = ""
    return [verification, everywhere(account(), text), rehearsed]


@pytest.mark.incident("a package's name or a line of a log may be whatever somebody likes")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_changes_no_tag_and_no_attribute_of_the_page(text: str) -> None:
    plain, bad = skeleton(*hostile("plain")), skeleton(*hostile(text))
    assert bad.tags == plain.tags
    assert not [name for tag, names in bad.tags for name in names if name.startswith("on") or name == "style"]
    assert {value for name, value in bad.values if name in {"src", "href"} and not value.startswith("#")} == {
        value for name, value in plain.values if name in {"src", "href"} and not value.startswith("#")
    }


@given(st.text())
def test_no_text_whatever_it_is_becomes_more_than_text(text: str) -> None:
    assert skeleton(*hostile(f"x{text}")).tags == skeleton(*hostile("xplain")).tags


def test_what_hides_or_reorders_is_shown_by_its_number() -> None:
    text = skeleton(*hostile("\u202egnp.exe \x1b[2J\x00")).text
    assert "[U+202E]gnp.exe [U+001B][2J[U+0000]" in text
    assert not re.search("[\u202e\x1b\x00]", text)


def test_a_half_of_a_character_keeps_no_page_from_being_written(tmp_path: Path) -> None:
    text = page.render(content.build(Sources(tmp_path, Read("a", everywhere(report(), "x\ud800"), "0"))))
    assert "x[U+D800]" in text
    assert text.encode()


def test_only_our_own_style_and_script_count_and_nothing_is_fetched() -> None:
    text = page.render(content.build(Sources(Path("x"), Read("a", report(), "0"), Read("b", account(), "0"))))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        (ours,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert "img-src data:" in policy
    assert "unsafe" not in policy
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "url(" not in text


def test_a_value_that_the_template_asks_for_and_nobody_gives_is_an_error() -> None:
    class Less:
        version = "v1.2.3"

    with pytest.raises(UndefinedError):
        page.render(Less())  # type: ignore[arg-type]
