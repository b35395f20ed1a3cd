"""What a workflow's summary says of a verified image, and of its packages against the published image's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.stages.verification import PACKAGES, Stage, packed, staged
from zmanim_ami.commands import image as commands
from zmanim_ami.pipeline import attestation
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami.image import VERIFIED_TAG
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import reports, summary
from zmanim_ami.pipeline.verify.reports import PackageChange
from zmanim_ami.pipeline.verify.verification import NotVerified
from zmanim_ami.pipeline.version import parse

BUCKET = bucket_name("releases", "verify")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as prepared:
        yield prepared


def summarise(stage: Stage) -> summary.Summary:
    return summary.summary(stage.clients, Settings(), stage.root, parse("v1.2.3"))


def publish(stage: Stage, ami_id: str) -> None:
    stage.clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=ami_id, Type="String", Overwrite=True)


def publish_other(stage: Stage, packages: Mapping[str, str]) -> str:
    """Verify and publish an older image that has other packages."""
    other = cloud.make_image(stage.clients, "zmanim-v1.2.2", version="v1.2.2")
    report = json.dumps({"packages": packages}).encode()
    digest = attestation.keep(stage.clients, image.of_id(stage.clients, other), report)
    stage.clients.ec2.create_tags(Resources=[other], Tags=[{"Key": VERIFIED_TAG, "Value": digest}])
    publish(stage, other)
    return other


def test_before_the_first_publication_there_is_nothing_to_compare_with(stage: Stage) -> None:
    stage.verify()
    result = summarise(stage)
    assert (result.ok, result.ami_id, result.failed) == (True, stage.ami_id, ())
    assert result.published == reports.Comparison("", "", "nothing is published yet", ())
    page = summary.markdown(result)
    assert f"| AMI | `{stage.ami_id}` |" in page
    assert f"| healthy after | {result.healthy_seconds:.1f} s |" in page
    assert page.endswith("Nothing is published yet.\n")


@pytest.mark.incident("a failed update-motd.service kept a good image from being published")
def test_what_is_wrong_and_not_required_is_told_of_a_verified_image(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.ready is not None
    told = {"ok": False, "required": False, "detail": "failed: update-motd.service"}
    stage.ready["checks"] = {"base-units": told, "redis": {**told, "ok": True}}
    stage.verify()
    words = "base-units, which is not required: failed: update-motd.service"
    assert words in capsys.readouterr().err.splitlines()
    result = summarise(stage)
    assert (result.ok, result.remarks) == (True, (words,))
    assert f"- {words}" in summary.markdown(result).splitlines()


def test_the_advisories_that_were_open_when_it_was_built_are_in_the_summary_or_not_known(stage: Stage) -> None:
    stage.verify()
    assert "| advisories open when it was built | not known |" in summary.markdown(summarise(stage)).splitlines()
    words = "0 critical, 1 important, 0 medium, 0 low; 9 not covered (2026-11-30)"
    stage.clients.ec2.create_tags(Resources=[stage.ami_id], Tags=[{"Key": "zmanim:advisories", "Value": words}])
    assert f"| advisories open when it was built | {words} |" in summary.markdown(summarise(stage)).splitlines()
    stage.clients.ec2.deregister_image(ImageId=stage.ami_id)
    assert summarise(stage).advisories == "not known"


def test_each_package_that_differs_from_the_published_image_is_named_with_both_versions(stage: Stage) -> None:
    other = publish_other(stage, {"bash": PACKAGES["bash"], "redis": "7.2.3-1.aarch64", "telnet": "1-1.aarch64"})
    stage.answers["packages"] = packed({**PACKAGES, "jq": "1.7-1.aarch64"})
    stage.verify()
    result = summarise(stage)
    assert (result.published.ami_id, result.published.version, result.published.unknown) == (other, "v1.2.2", "")
    assert result.published.changes == (
        PackageChange("jq", "", "1.7-1.aarch64"),
        PackageChange("redis", "7.2.3-1.aarch64", PACKAGES["redis"]),
        PackageChange("telnet", "1-1.aarch64", ""),
    )
    lines = summary.markdown(result).splitlines()
    assert f"3 differ (v1.2.2 `{other}`):" in lines
    assert f"| redis | 7.2.3-1.aarch64 | {PACKAGES['redis']} |" in lines
    assert "| telnet | 1-1.aarch64 | not in it |" in lines


def test_a_page_that_is_kept_somewhere_is_linked_and_none_is_not(stage: Stage) -> None:
    stage.verify()
    address = "https://github.example/artifacts/1"
    assert summary.markdown(summarise(stage), address).splitlines()[2] == f"[The evidence page]({address})"
    assert "evidence page" not in summary.markdown(summarise(stage))


def test_an_image_that_is_published_itself_has_the_same_packages(stage: Stage) -> None:
    stage.verify()
    publish(stage, stage.ami_id)
    assert f"The same (v1.2.3 `{stage.ami_id}`)." in summary.markdown(summarise(stage))


@pytest.mark.parametrize("bad", ["missing", "forged", "gone"])
def test_what_can_not_be_compared_is_said_and_never_shown_as_no_difference(stage: Stage, bad: str) -> None:
    other = publish_other(stage, PACKAGES)
    stage.verify()
    assert summarise(stage).published.unknown == ""
    if bad == "missing":
        stage.clients.s3.delete_object(Bucket=BUCKET, Key=f"reports/{other}.json")
    elif bad == "forged":
        stage.clients.s3.put_object(Bucket=BUCKET, Key=f"reports/{other}.json", Body=b'{"packages": {}}')
    else:
        stage.clients.ec2.deregister_image(ImageId=other)
    result = summarise(stage)
    words = {"missing": "no report", "forged": "is not the one", "gone": "is gone"}[bad]
    assert words in result.published.unknown
    assert result.published.changes == ()
    assert "The same" not in summary.markdown(result)
    assert other in summary.markdown(result)


def test_a_refusal_is_an_error_and_not_a_missing_report(stage: Stage) -> None:
    publish_other(stage, PACKAGES)
    stage.verify()
    cloud.answer(stage.clients.s3, "GetObject", lambda request: "AccessDenied")
    with raises("not-allowed"):
        summarise(stage)


def test_a_failed_verification_is_told_and_its_report_not_kept(stage: Stage) -> None:
    stage.answers["health-status"] = "503"
    with pytest.raises(NotVerified):
        stage.verify()
    result = summarise(stage)
    assert not result.ok
    assert [check.name for check in result.failed] == ["GET /health"]
    assert "- GET /health: expected 200, found 503" in summary.markdown(result).splitlines()
    assert stage.clients.s3.list_objects_v2(Bucket=BUCKET).get("Contents", []) == []


@pytest.mark.incident("a verification failed, and the run's summary was empty")
def test_a_verification_that_never_came_to_its_checks_is_told_with_its_image_and_its_error(stage: Stage) -> None:
    stage.ready = None
    with raises("not-ready"):
        stage.verify()
    lines = summary.markdown(summarise(stage)).splitlines()
    assert lines[0] == "## v1.2.3: not verified"
    assert {f"| AMI | `{stage.ami_id}` |", "| healthy after | not known |", "| checks | 0 of 1 passed |"} <= set(lines)
    assert any(re.match(r"- i-\w+ is not ready after .* expected a line zmanim-ready", line) for line in lines)
    # The console's words are shown, and not read as Markdown.
    assert "      [    0.0] booting" in lines


@pytest.mark.incident("a verification was cancelled, and the run's summary was empty")
def test_a_verification_that_is_killed_is_told_with_its_image(stage: Stage) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt  # nothing is written after it either

    stage.on_console = kill
    with pytest.raises(KeyboardInterrupt):
        stage.verify()
    lines = summary.markdown(summarise(stage)).splitlines()
    assert lines[0] == "## v1.2.3: not verified"
    assert f"| AMI | `{stage.ami_id}` |" in lines
    assert "- the verification: expected to come to its end, found it was cut off" in lines


def test_a_report_that_could_not_be_kept_is_no_verified_image(stage: Stage) -> None:
    cloud.answer(stage.clients.s3, "PutObject", lambda request: "AccessDenied")
    with raises("not-allowed"):
        stage.verify()
    result = summarise(stage)
    assert (result.ok, result.ami_id, len(result.failed)) == (False, stage.ami_id, 1)


def test_a_machine_that_was_never_asked_has_packages_that_nobody_knows(stage: Stage) -> None:
    assert stage.ready is not None
    stage.ready["ok"] = False
    with pytest.raises(NotVerified):
        stage.verify()
    assert summarise(stage).published.unknown == "the image's packages are not known"


def test_a_report_that_could_not_be_kept_leaves_the_image_unverified(stage: Stage) -> None:
    cloud.answer(stage.clients.s3, "PutObject", lambda request: "AccessDenied")
    with raises("not-allowed"):
        stage.verify()
    assert stage.tag() is None


def test_without_a_report_of_that_version_there_is_no_summary(stage: Stage) -> None:
    with raises("no-report"):
        summarise(stage)


def test_the_task_prints_markdown_or_json(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.verify()
    monkeypatch.setattr(commands, "ROOT", stage.root)
    for arguments in ([], ["--json"]):
        Program(namespace=tasks.namespace).run(
            ["inv", "show-verification", "--version", "v1.2.3", *arguments], exit=False
        )
    page, _, result = capsys.readouterr().out.partition("{")
    assert page == summary.markdown(summarise(stage))
    assert json.loads("{" + result)["published"]["unknown"] == "nothing is published yet"
