"""The evidence page as a browser shows it: wide and narrow, light and dark, by keyboard, to a screen reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.support.stages.evidence import account, put, rehearsal, report
from zmanim_ami.evidence import content, page, sources

WIDTHS, SCHEMES = (390, 1440), ("light", "dark")
_BAD = '"><img src="https://example.org/x" onerror="window.hacked = 1"><script>window.hacked = 1</script>'
_CHART = (
    '<?xml version="1.0"?>\n<svg width="200px" height="90px" xmlns="http://www.w3.org/2000/svg"'
    ' xmlns:xlink="http://www.w3.org/1999/xlink" onload="top.hacked = 1"><script>top.hacked = 1</script>'
    '<image xlink:href="https://example.org/y.png" width="9" height="9"/><text x="9" y="20">units</text></svg>\n'
)


def _failed() -> dict[str, Any]:
    made = {**report(), "ok": False}
    made["checks"][-2].update(
        ok=False, found="i-0abc is not ready after 300 s\n[   12.3] zmanim-data-volume: no volume"
    )
    return made


def _hostile() -> dict[str, Any]:
    made = report()
    made["checks"][3]["found"] = made["facts"]["blame"][0]["unit"] = made["versions"]["kernel"] = _BAD
    made["packages"] = {_BAD: _BAD}
    made["facts"]["chart"] = _CHART
    return made


_STOPPED = {
    **rehearsal(),
    "ok": False,
    "ami_id": "",
    "published": None,
    "steps": [*rehearsal()["steps"][:3], {"name": "build-ami", "seconds": 31.0, "ok": False}],
    "error": "the run stopped at build-ami\n  expected: build-ami ends with exit code 0\n  found:    exit code 1",
}
# A page of each kind: the report, what the account said, the rehearsal.
KINDS: Mapping[str, tuple[object, object, object]] = {
    "rehearsed": (report(), account(), rehearsal()),
    "verified": (report(), account(), None),
    "not-verified": (_failed(), account(), None),
    "stopped": (None, None, _STOPPED),
    "cut-off": (None, None, {**_STOPPED, "error": "", "steps": []}),
    "old": (
        {"version": "v1.2.3", "ok": True, "checks": report()["checks"], "packages": report()["packages"]},
        None,
        None,
    ),
    "hostile": (_hostile(), {**account(), "components": []}, None),
}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, artefacts: Path) -> Mapping[str, Path]:
    """Write the page of each kind, and keep them beside their pictures."""
    made = {}
    for kind, given in KINDS.items():
        found = sources.find(put(tmp_path_factory.mktemp(kind), *given))
        made[kind] = artefacts / f"{kind}.html"
        made[kind].write_text(page.render(content.build(found)), "utf-8")
    return made


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1440, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """Open a page; give it, with what it complained of and asked for on its way."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    trouble: list[str] = []
    shown.on("console", lambda message: trouble.append(f"console: {message.text}"))
    shown.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    shown.on("request", lambda request: trouble.append(f"request: {request.url[:90]}"))
    shown.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    shown.goto(file.as_uri(), wait_until="networkidle")
    known = {f"request: {file.as_uri()}"}
    yield shown, [each for each in trouble if each not in known and not each.startswith("request: data:")]
    context.close()


@pytest.mark.parametrize("view", list(product(WIDTHS, SCHEMES)), ids=lambda view: f"{view[0]}-{view[1]}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_quiet_and_open_to_everybody(
    browser: Browser, files: Mapping[str, Path], artefacts: Path, kind: str, view: tuple[int, str]
) -> None:
    width, scheme = view
    with opened(browser, files[kind], width, scheme) as (shown, trouble):
        shown.screenshot(path=artefacts / f"{kind}-{width}-{scheme}.png", full_page=True)
        assert trouble == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        results = Axe().run(shown)
        assert results.violations_count == 0, results.generate_report()
        assert shown.evaluate("window.hacked") is None


def test_nothing_that_a_report_holds_runs_and_its_chart_is_only_a_picture(
    browser: Browser, files: Mapping[str, Path]
) -> None:
    with opened(browser, files["hostile"]) as (shown, trouble):
        assert trouble == []
        assert shown.evaluate("document.querySelectorAll('script').length") == 1
        assert shown.evaluate("document.querySelectorAll('img').length") == 1
        assert shown.evaluate("document.querySelector('img').naturalWidth") == 200
        assert _BAD in shown.inner_text("#checks")


@pytest.mark.parametrize(
    "defect",
    [
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))",
        "document.body.innerHTML += '<b onclick=\"window.hacked = 1\">x</b>'; document.body.lastElementChild.click()",
        "document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))",
        "fetch('https://example.org/').catch(() => null)",
    ],
    ids=["a script", "a handler", "an image", "a request"],
)
def test_what_somebody_got_into_the_page_would_not_run_and_ask_nobody(
    browser: Browser, files: Mapping[str, Path], defect: str
) -> None:
    with opened(browser, files["verified"]) as (shown, _):
        refused: list[str] = []
        asked: list[str] = []
        shown.on("console", lambda message: refused.append(message.text))
        shown.on("requestfinished", lambda request: asked.append(request.url))
        shown.evaluate(f"() => {{ {defect} }}")
        shown.wait_for_timeout(200)
        assert shown.evaluate("window.hacked") is None
        assert asked == []
        assert any("Content Security Policy" in words for words in refused)


def visible(shown: Page, table: str) -> int:
    """Return how many rows of a table are seen."""
    count: int = shown.locator(f"#{table}-rows tr:visible").count()
    return count


@pytest.mark.parametrize("width", WIDTHS)
def test_a_search_leaves_the_rows_that_have_every_word_and_says_how_many(
    browser: Browser, files: Mapping[str, Path], width: int
) -> None:
    with opened(browser, files["verified"], width) as (shown, _):
        field = shown.get_by_label("Search").nth(1)
        assert visible(shown, "inside") == 516
        field.fill("GO module/4 v0.42")
        assert visible(shown, "inside") == 1
        assert shown.inner_text("#inside-found") == "1 of 516"
        field.fill("<nothing>")
        assert visible(shown, "inside") == 0
        field.fill("")
        assert visible(shown, "inside") == 516
        assert shown.inner_text("#inside-found") == ""


def test_by_keyboard_one_comes_to_the_evidence_and_through_every_part_of_it(
    browser: Browser, files: Mapping[str, Path]
) -> None:
    with opened(browser, files["rehearsed"]) as (shown, _):
        focused: Callable[[], str] = lambda: shown.evaluate(  # noqa: E731
            "document.activeElement.getAttribute('aria-label') || document.activeElement.id"
            " || document.activeElement.textContent.trim().slice(0, 40)"
        )
        shown.keyboard.press("Tab")
        assert focused() == "To the evidence"
        assert shown.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        shown.keyboard.press("Enter")
        assert focused() == "main"
        seen = []
        for _ in range(40):
            shown.keyboard.press("Tab")
            seen.append(focused())
        assert {"whole", "Boot chart", "postgresql-search", "inside-search"} <= set(seen), seen
        shown.locator("[aria-label='Boot chart']").focus()
        shown.keyboard.press("End")
        shown.wait_for_timeout(400)
        assert shown.evaluate("document.activeElement.scrollTop") > 0
        outline = shown.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_the_whole_chart_fits_where_it_is_asked_for(browser: Browser, files: Mapping[str, Path]) -> None:
    with opened(browser, files["verified"], 390) as (shown, _):
        assert shown.evaluate("document.querySelector('img').clientWidth") == 1180
        shown.get_by_label("The whole chart at once").check()
        assert shown.evaluate("document.querySelector('img').clientWidth") < 390


def test_without_a_script_every_row_is_there(browser: Browser, files: Mapping[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(files["verified"].as_uri())
    assert shown.locator("#inside-rows tr").count() == 516
    assert re.search("Verified", shown.inner_text("h1"))
    context.close()
