"""Packer's words are real ones: what Packer 1.15.0 and its Amazon plugin 1.8.2 said, kept in packer_outputs/."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.errors import HostLacks
from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.pipeline.ami import packer
from zmanim_ami.pipeline.ami import packer_errors as failures
from zmanim_ami.pipeline.ami.provenance import Provenance
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

OUTPUTS = Path(__file__).with_name("packer_outputs")
LOG = Path("build/packer/v1.2.3/packer.log")
MADE = Provenance("a" * 40, "b" * 64, "packer 1.15.0")


def packer_output(name: str) -> str:
    return (OUTPUTS / f"{name}.txt").read_text()


def values(settings: Settings) -> dict[str, Value]:
    when = packer.deprecation(settings, datetime(2026, 11, 24, 12, tzinfo=UTC))
    given = {"package_cache": "", "ssh_source_cidr": "192.0.2.7/32", "deprecate_at": when}
    return packer.variables(ROOT, settings, parse("v1.2.3"), Path("bundle"), MADE, **given)


@pytest.mark.parametrize(
    ("output", "code", "found"),
    [
        ("no-credentials", "builder-credentials", "No valid credential sources found"),
        ("no-source", "source-image-missing", "al2023-ami-2099.1.1.*-kernel-6.12-arm64"),
        ("bad-variable", "template-invalid", "Invalid value for cmd variable"),
        ("undeclared", "template-invalid", '"nothing" variable'),
        ("no-plugin", "plugin-missing", "Missing plugins"),
        ("no-ssh", "builder-unreachable", "Timeout waiting for SSH"),
        ("name-taken", "name-taken", "ami-90fddf6daf1716bb7"),
        ("image-not-seen", "image-not-seen", "InvalidAMIID.NotFound"),
        ("cancelled", "build-cancelled", "Cleanly cancelled"),
        ("script-failed", "provisioner-failed", "exit code 7"),
        ("no-default-vpc", "no-default-vpc", "VPCIdNotSpecified"),
        ("zone-without-type", "zone-without-type", "choosing eu-west-1b"),
    ],
)
def test_each_failure_of_packer_is_an_error_of_its_own(output: str, code: str, found: str) -> None:
    error = failures.build_failure(packer_output(output), LOG, "7")
    assert error.code == code
    assert found in error.found
    assert error.expected
    assert str(LOG) in error.fix


def test_a_build_whose_session_ended_says_what_takes_its_builder_away() -> None:
    refused = packer_output("no-default-vpc").replace("VPCIdNotSpecified: No default VPC for this user", "{}")
    error = failures.build_failure(refused.replace("{}", "RequestExpired: Request has expired."), LOG, "4711")
    assert error.code == "session-ended"
    assert "./inv sweep --run 4711" in error.fix


@pytest.mark.parametrize("output", ["no-default-vpc", "zone-without-type"])
def test_a_builder_that_has_no_place_names_the_setting_for_one(output: str) -> None:
    error = failures.build_failure(packer_output(output), LOG, "7")
    assert "setting subnet_id" in error.expected
    assert "set subnet_id" in error.fix


def test_a_missing_plugin_is_a_lack_of_this_host_in_a_validation_too() -> None:
    error = failures.template_failure(packer_output("no-plugin"))
    assert isinstance(error, HostLacks)
    assert error.exit_code == 3


def test_a_failing_script_is_shown_by_its_last_words() -> None:
    error = failures.build_failure(packer_output("script-failed"), LOG, "7")
    assert "cc -o server.o line 30" in error.found
    assert "cc -o server.o line 3\n" not in error.found  # only the end
    assert "Terminating the source" not in error.found


def test_what_a_script_prints_never_decides_what_failed() -> None:
    """The script's output names an AccessDenied package, and that is no refusal of AWS."""
    assert "AccessDenied" in packer_output("script-failed")
    assert failures.build_failure(packer_output("script-failed"), LOG, "7").code == "provisioner-failed"


def test_a_package_that_dnf_does_not_find_is_named_with_what_finds_the_others() -> None:
    output = packer_output("script-failed")
    line = next(each for each in output.splitlines() if "AccessDenied" in each)
    said = line.partition(": ")[0] + ": Error: Unable to find a match: postgresql17-postgis postgresql17-nothing"
    error = failures.build_failure(output.replace(line, said), LOG, "7")
    assert error.code == "package-missing"
    assert error.found == "no postgresql17-postgis postgresql17-nothing"
    assert "versions.json" in error.fix
    assert "resolve-packages" in error.fix


def test_a_refusal_of_aws_after_the_scripts_is_still_seen() -> None:
    output = packer_output("script-failed").replace(
        "Script exited with non-zero exit status: 7. Allowed exit codes are: [0]",
        "Error creating AMI: api error UnauthorizedOperation: You are not authorized",
    )
    assert failures.build_failure(output, LOG, "7").code == "builder-credentials"


def test_an_unknown_failure_is_told_in_packers_own_last_words() -> None:
    error = failures.build_failure("==> zmanim.amazon-ebs.al2023: Something new\n", LOG, "7")
    assert error.code == "packer-failed"
    assert "Something new" in error.found


def test_people_see_the_steps_and_what_scripts_say_of_themselves_but_not_their_chatter() -> None:
    show = packer.essential()
    shown = [text for line in packer_output("script-failed").splitlines() if (text := show(line))]
    assert "Launching a source AWS instance..." in shown
    assert "cloud-init: done" in shown
    assert "redis: compiling" in shown
    assert "Terminating the source AWS instance..." in shown
    assert not any(text.startswith(("cc -o", "Installed:")) for text in shown)


def manifest(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    return path


def test_the_image_is_that_of_the_last_run_and_not_the_last_or_first_in_the_manifest(tmp_path: Path) -> None:
    content = json.loads((OUTPUTS / "manifest.json").read_text())
    assert packer.image_id(OUTPUTS / "manifest.json", "eu-west-1", LOG) == "ami-0b7610ae88be815f0"
    content["last_run_uuid"] = content["builds"][0]["packer_run_uuid"]
    assert packer.image_id(manifest(tmp_path, content), "eu-west-1", LOG) == "ami-a34c5d97900211470"


def test_of_several_regions_ours_is_taken(tmp_path: Path) -> None:
    content = json.loads((OUTPUTS / "manifest.json").read_text())
    content["builds"][1]["artifact_id"] = "eu-central-1:ami-0000000000000000c,eu-west-1:ami-0000000000000000d"
    assert packer.image_id(manifest(tmp_path, content), "eu-west-1", LOG) == "ami-0000000000000000d"


@pytest.mark.parametrize(
    "content",
    [
        {"builds": [], "last_run_uuid": "x"},
        {"builds": [{"packer_run_uuid": "y", "artifact_id": "eu-west-1:ami-1"}], "last_run_uuid": "x"},
        {"builds": [{"packer_run_uuid": "x", "artifact_id": "eu-north-1:ami-1"}], "last_run_uuid": "x"},
        {"builds": [{"packer_run_uuid": "x", "artifact_id": ""}], "last_run_uuid": "x"},
        {"builds": [{"packer_run_uuid": "x", "artifact_id": "eu-west-1:ami-1,eu-west-1:ami-2"}], "last_run_uuid": "x"},
        {"builds": [{"packer_run_uuid": "x", "artifact_id": None}], "last_run_uuid": "x"},
        {"builds": None, "last_run_uuid": "x"},
        {},
        [],
    ],
)
def test_a_success_without_exactly_one_image_is_an_error(tmp_path: Path, content: object) -> None:
    with raises("no-image-made"):
        packer.image_id(manifest(tmp_path, content), "eu-west-1", LOG)


def test_a_success_without_a_manifest_is_an_error(tmp_path: Path) -> None:
    with raises("no-image-made"):
        packer.image_id(tmp_path / "manifest.json", "eu-west-1", LOG)


def test_every_variable_of_the_template_is_passed_and_no_other() -> None:
    text = (ROOT / "infrastructure/packer/variables.pkr.hcl").read_text()
    assert set(values(Settings())) == set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))


def test_variables_are_of_the_templates_types() -> None:
    given = values(Settings(ami_users=("111111111111", "222222222222"), deprecate_days=90, root_encrypted=False))
    assert given["ami_users"] == ("111111111111", "222222222222")
    assert given["ssh_source_cidr"] == "192.0.2.7/32"
    assert given["deprecate_at"] == "2027-02-22T12:00:00Z"
    assert given["root_encrypted"] is False
    assert values(Settings())["deprecate_at"] == ""


def test_the_route_of_postgresql_s_packages_is_the_setting_s() -> None:
    assert values(Settings())["postgresql_repo"] == "amazonlinux"
    assert values(Settings(postgresql_repo="pgdg"))["postgresql_repo"] == "pgdg"


def test_paths_do_not_depend_on_where_packer_runs() -> None:
    given = values(Settings())
    assert all(Path(str(given[name])).is_absolute() for name in ("bundle_dir", "versions_file", "output_dir"))
    assert Path(str(given["versions_file"])) == ROOT / "infrastructure/packer/versions.json"


def stand_in(tmp_path: Path, script: str) -> tuple[Path, dict[str, str]]:
    """A clone whose `packer` is a script: only to see what is done with what Packer prints and writes."""
    (tmp_path / "infrastructure/packer").mkdir(parents=True)
    program = tmp_path / "bin/packer"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return tmp_path, {"PATH": f"{program.parent}:/usr/bin:/bin"}


def test_a_build_keeps_the_whole_log_and_reads_the_manifest(tmp_path: Path) -> None:
    output = packer.output_directory(tmp_path, parse("v1.2.3"))
    root, env = stand_in(
        tmp_path, f"cat {OUTPUTS}/no-ssh.txt; cp {OUTPUTS}/manifest.json {output}; echo $@ >{output}/args"
    )
    given = values(Settings(ami_users=("111111111111",)))
    built = packer.build(root, env, parse("v1.2.3"), given, force=False)
    assert built.ami_id == "ami-0b7610ae88be815f0"
    assert built.log.read_text() == packer_output("no-ssh")
    written = output / "variables.pkrvars.json"
    assert (output / "args").read_text() == f"build -color=false -var-file={written} .\n"
    assert json.loads(written.read_text()) == {**given, "ami_users": ["111111111111"]}
    assert (written.parent, written.stat().st_mode & 0o777) == (built.log.parent, 0o600)
    assert "null" not in written.read_text()


def test_the_manifest_of_an_earlier_build_is_never_taken_for_this_ones(tmp_path: Path) -> None:
    output = packer.output_directory(tmp_path, parse("v1.2.3"))
    root, env = stand_in(tmp_path, "true")
    output.mkdir(parents=True)
    (output / "manifest.json").write_text((OUTPUTS / "manifest.json").read_text())
    with raises("no-image-made"):
        packer.build(root, env, parse("v1.2.3"), {"region": "eu-west-1"}, force=False)


def test_only_a_replacement_forces_packer(tmp_path: Path) -> None:
    output = packer.output_directory(tmp_path, parse("v1.2.3"))
    root, env = stand_in(tmp_path, f"cp {OUTPUTS}/manifest.json {output}; echo $@ >{output}/args")
    packer.build(root, env, parse("v1.2.3"), {"region": "eu-west-1"}, force=True)
    assert (output / "args").read_text().startswith("build -color=false -force ")


def test_a_failing_build_is_its_own_error_and_its_log_stays(tmp_path: Path) -> None:
    root, env = stand_in(tmp_path, f"cat {OUTPUTS}/script-failed.txt; exit 1")
    with raises("provisioner-failed") as error:
        packer.build(root, env, parse("v1.2.3"), {"region": "eu-west-1", "run": "7"}, force=False)
    log = packer.output_directory(tmp_path, parse("v1.2.3")) / "packer.log"
    assert str(log) in error.value.fix
    assert log.read_text() == packer_output("script-failed")


def test_a_template_that_is_not_formatted_is_named(tmp_path: Path) -> None:
    root, env = stand_in(tmp_path, "echo variables.pkr.hcl; exit 3")
    with raises("template-not-formatted") as error:
        packer.validate(root, env)
    assert error.value.found == "variables.pkr.hcl"


def test_a_template_that_packer_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    root, env = stand_in(tmp_path, f'[ "$1" = validate ] || exit 0; cat {OUTPUTS}/undeclared.txt; exit 1')
    with raises("template-invalid") as error:
        packer.validate(root, env, {"nothing": "1"})
    assert '"nothing" variable' in error.value.found


def test_no_packer_at_all_is_a_lack_of_this_host(tmp_path: Path) -> None:
    root, _ = stand_in(tmp_path, "true")
    with pytest.raises(HostLacks):
        packer.validate(root, {"PATH": str(tmp_path / "nothing")})
