"""The completion record: what is written is what is read, and nothing torn or foreign passes for one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backup_parts import RECORD
from zmanim_host.backup.record import (
    CompletionRecord,
    DatabasePart,
    GlobalsPart,
    RedisPart,
    from_json,
    located,
    parse,
    to_json,
)
from zmanim_host.host import HostError

texts = st.text(max_size=20)
counts = st.integers(min_value=0, max_value=2**63)
moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1)).map(
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
databases = st.builds(
    DatabasePart, texts, texts, counts, st.dictionaries(texts, counts, max_size=3), st.dictionaries(texts, texts)
)
records = st.builds(
    CompletionRecord,
    run=texts,
    environment=texts,
    started=moments,
    finished=moments,
    image_version=texts,
    instance_id=texts,
    system_identifier=texts,
    databases=st.lists(databases, max_size=3).map(tuple),
    globals=st.builds(GlobalsPart, st.lists(texts, max_size=3).map(tuple), texts, texts),
    redis=st.builds(RedisPart, texts, counts, texts, counts, counts),
    versions=st.dictionaries(texts, texts, max_size=3),
    volume=texts,
)


@given(records)
def test_a_record_comes_back_as_it_was_written(record: CompletionRecord) -> None:
    assert from_json(to_json(record)) == record


@given(records, st.data())
def test_a_torn_record_is_none(record: CompletionRecord, data: st.DataObject) -> None:
    text = to_json(record).rstrip()
    cut = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    with pytest.raises(HostError):
        from_json(text[:cut])


@given(records, st.sampled_from(["run", "databases", "globals", "redis", "versions", "started", "system_identifier"]))
def test_a_record_that_lacks_something_is_none(record: CompletionRecord, name: str) -> None:
    values = json.loads(to_json(record))
    del values[name]
    with pytest.raises(HostError, match="can't be understood"):
        from_json(json.dumps(values))


@given(records)
def test_a_record_of_before_volumes_were_written_down_is_one(record: CompletionRecord) -> None:
    values = json.loads(to_json(record))
    del values["volume"]
    assert from_json(json.dumps(values)) == replace(record, volume="")


def test_a_record_whose_roles_are_a_part_of_their_own_is_one() -> None:
    values = json.loads(to_json(RECORD))
    values |= {"format": 1, "globals": {"snapshot": "s2", "bytes": 5, "roles": ["zmanim"], "sha256": "ab"}}
    assert from_json(json.dumps(values)).globals == GlobalsPart(("zmanim",), "ab", snapshot="s2")


def test_a_newer_image_s_record_is_told_from_a_damaged_one() -> None:
    with pytest.raises(HostError, match="newer image"):
        from_json('{"format": 3}')


@pytest.mark.parametrize("value", ["7", -1, True, None, 1.5])
def test_a_count_is_a_count(value: object) -> None:
    values = {"name": "n", "snapshot": "s", "bytes": value, "rows": {}, "extensions": {}}
    with pytest.raises(TypeError):
        parse(DatabasePart, values)


def test_a_part_can_be_put_down_and_taken_up() -> None:
    part = DatabasePart("zmanim", "ab12", 10, {'public."od|d"': 3}, {"postgis": "3.5"})
    assert parse(DatabasePart, json.loads(json.dumps(asdict(part)))) == part


@pytest.mark.incident("dating a run anew changed its snapshots' ids, and its record named what was gone")
def test_a_run_that_was_dated_anew_is_found_by_its_tags_and_has_its_new_time() -> None:
    parts = {"database=zmanim": "new1", "globals": "new2", "redis": "new3", "record": "new4"}
    anew = RECORD.finished - timedelta(days=400)
    record = located(RECORD, parts, anew)
    assert [part.snapshot for part in record.databases] == ["new1"]
    assert (record.globals.snapshot, record.redis.snapshot) == ("new2", "new3")
    assert (record.started, record.finished) == (RECORD.started - timedelta(days=400), anew)
    # Stored a moment after it was written: that is its own time.
    assert located(RECORD, {}, RECORD.finished + timedelta(seconds=20)) == RECORD
