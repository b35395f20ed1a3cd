"""Running Packer: its template checked, an image built, and the image's id read from the manifest.

The output for people is read, not `-machine-readable`: the id comes from the manifest in either case, and what is left
to read are error texts, which the machine's form only escapes.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from support.cache import locked
from support.errors import Error
from support.files import write_atomically
from support.process import CommandFailed, run
from support.progress import say
from zmanim_ami.pipeline.ami.packer_errors import build_failure, template_failure
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY, Provenance
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.settings import BuildInputs, Reader, Settings
from zmanim_ami.pipeline.version import Version

_PROVISIONING = ("Provisioning with", "Uploading", "Downloading")
_PROVISIONED = ("Stopping the source instance", "Provisioning step had errors", "Terminating the source")
# What a script says about itself (scripts/lib.sh, log): its name and a colon.
_SCRIPT_SAYS = re.compile(r"[a-z][a-z-]*: ")
_STEP = re.compile(r"==> (?:[\w-]+(?:\.[\w-]+)+: )?(.*)")


@dataclass(frozen=True)
class Built:
    """What one run of Packer made: the image in our region, the directory of its by-products, the whole log."""

    ami_id: str
    output: Path
    log: Path


def variables(
    root: Path,
    settings: Settings,
    version: Version,
    bundle: Path,
    provenance: Provenance,
    *,
    package_cache: str,
    ssh_source_cidr: str,
    deprecate_at: str = "",
    release_keys: str = "",
) -> dict[str, Value]:
    """Return every variable of the template by name.

    All of them, always: the template's own defaults are for a bare `packer validate .`. `package_cache` and
    `release_keys` are directories or empty.
    """
    inputs = BuildInputs(
        version=str(version),
        bundle_dir=str(bundle.absolute()),
        versions_file=str((root / settings.versions_file).absolute()),
        package_cache=package_cache,
        release_keys=release_keys,
        ssh_source_cidr=ssh_source_cidr,
        deprecate_at=deprecate_at,
        commit=provenance.commit,
        tree_digest=provenance.tree_digest,
        tool_versions=provenance.tool_versions,
        output_dir=str(output_directory(root, version).absolute()),
    )
    return {**settings.read_by(Reader.TEMPLATE, Reader.IMAGE_CONTENT), **asdict(inputs)}


def deprecation(settings: Settings, now: datetime) -> str:
    """Return when an image that is made at `now` (UTC) is to be deprecated, empty for never."""
    return f"{now + timedelta(days=settings.deprecate_days):%Y-%m-%dT%H:%M:%SZ}" if settings.deprecate_days else ""


def output_directory(root: Path, version: Version) -> Path:
    """Return where Packer writes the manifest, the inventory, new packages and its log for this version."""
    return root / "build" / "packer" / str(version)


def validate(root: Path, env: Mapping[str, str], values: Mapping[str, Value] | None = None) -> None:
    """Check the template: formatted, its plugin there, accepted with `values` (by default with its own defaults).

    `env` is the toolchain's environment. Nothing is asked of AWS.

    Raises `template-not-formatted`, `template-invalid`, `plugin-missing`, HostLacks.
    """
    directory = root / PACKER_DIRECTORY
    formatted = run(["packer", "fmt", "-check", "-recursive", "."], cwd=directory, env=env, check=False)
    if formatted.returncode == 3:
        raise Error(
            "the template is not formatted",
            code="template-not-formatted",
            expected="every file as packer fmt writes it",
            found=", ".join(formatted.stdout.split()),
            fix=f"packer fmt -recursive {PACKER_DIRECTORY}",
        )
    if formatted.returncode != 0:
        raise template_failure(formatted.stdout + formatted.stderr)
    with tempfile.TemporaryDirectory(prefix="zmanim-packer-") as scratch:
        given = [_var_file(Path(scratch), values)] if values else []
        for command in (["init", "."], ["validate", *given, "."]):
            try:
                run(["packer", *command], cwd=directory, env=env)
            except CommandFailed as error:
                raise template_failure(error.output) from error


def build(root: Path, env: Mapping[str, str], version: Version, values: Mapping[str, Value], *, force: bool) -> Built:
    """Build an image and return it; steps go to stderr as they happen, everything to packer.log.

    `force` lets Packer deregister an image of the same name, which it does after provisioning, just before the new one
    is made: a failing script costs nothing.

    Raises one of packer_errors' errors, HostLacks, and KeyboardInterrupt once Packer has cleaned up.
    """
    output = output_directory(root, version)
    with locked(output.parent / f".{version}.lock", f"a build of {version}"):
        # What an earlier run left must not be taken for this one's: Packer appends to a manifest.
        if output.exists():
            shutil.rmtree(output)
        output.mkdir(parents=True)
        log = output / "packer.log"
        command = ["packer", "build", "-color=false", *(["-force"] if force else []), _var_file(output, values), "."]
        with log.open("w") as file:
            show = essential()

            def on_line(line: str) -> None:
                file.write(line + "\n")
                file.flush()
                if text := show(line):
                    say(f"packer │ {text}")

            try:
                run(command, cwd=root / PACKER_DIRECTORY, env=env, on_line=on_line)
            except CommandFailed as error:
                raise build_failure(error.output, log, str(values["run"])) from error
        return Built(image_id(output / "manifest.json", str(values["region"]), log), output, log)


def essential() -> Callable[[str], str]:
    """Return a function that says what of each of Packer's lines is worth showing ("" for nothing).

    Packer's own steps are, and of the scripts on the builder what they say of themselves: dnf and make talk at length.
    """
    provisioning = False

    def show(line: str) -> str:
        nonlocal provisioning
        match = _STEP.fullmatch(line)
        if not match:
            return ""
        text = match[1]
        if text.startswith(_PROVISIONING):
            provisioning = True
            return "" if "packer-shell" in text else text
        if text.startswith(_PROVISIONED):
            provisioning = False
        return text if not provisioning or _SCRIPT_SAYS.match(text) else ""

    return show


def made_here(output: Path, ami_id: str) -> bool:
    """Return whether the by-products in `output` are those of this image."""
    manifest = output / "manifest.json"
    return manifest.is_file() and ami_id in manifest.read_text()


def image_id(manifest: Path, region: str, log: Path) -> str:
    """Return the id of the image that the manifest's last run made in `region`.

    Raises `no-image-made` when that is not exactly one.
    """
    try:
        content = json.loads(manifest.read_text())
        last = content["last_run_uuid"]
        artifacts: list[str] = [
            artifact
            for build in content["builds"]
            if build["packer_run_uuid"] == last
            for artifact in build["artifact_id"].split(",")
        ]
        found = ", ".join(artifacts) or "no artifact of the last run"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        artifacts, found = [], f"{type(error).__name__}: {error}"
    ids = [artifact.removeprefix(f"{region}:") for artifact in artifacts if artifact.startswith(f"{region}:ami-")]
    if len(ids) != 1:
        raise Error(
            "Packer ended well, but its manifest does not name one image",
            code="no-image-made",
            expected=f"one artifact {region}:ami-… in {manifest}",
            found=found,
            fix=f"all that Packer said: {log}",
        )
    return ids[0]


def _var_file(directory: Path, values: Mapping[str, Value]) -> str:
    """Write the variables into `directory`, for this user's eyes only, and return Packer's option for them."""
    path = directory / "variables.pkrvars.json"
    write_atomically(path, json.dumps(values, indent=2) + "\n", 0o600)
    return f"-var-file={path.absolute()}"
