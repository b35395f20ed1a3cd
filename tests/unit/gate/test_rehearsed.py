"""A rehearsal proves that a tree can be built, and one whose programs do not ship proves nothing of that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zmanim_ami.gate.finding import Level
from zmanim_ami.gate.repository import rehearsed
from zmanim_ami.pipeline.ami import provenance

AMI = "ami-0123456789abcdef0"


def words(tree: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> str:
    monkeypatch.setattr(provenance, "sources", lambda _tree: "this tree")
    result = {"sources": "this tree", "ok": True, "ami_id": AMI, "published": {"/zmanim/prod/ami-id": AMI}, **more}
    (tree / "build/rehearsal").mkdir(parents=True)
    (tree / rehearsed.RESULT).write_text(json.dumps(result))
    first = rehearsed.check(tree)[0]
    assert first.level is Level.NOTE
    return first.words


@pytest.mark.parametrize("more", [{}, {"programs": ""}, {"programs": "aarch64"}])
def test_programs_that_ship_prove_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any) -> None:
    assert "proven for this tree" in words(tmp_path, monkeypatch, **more)


def test_programs_for_other_processors_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = words(tmp_path, monkeypatch, programs="x86_64")
    assert "not proven" in found
    assert "for x86_64, not for aarch64" in found
