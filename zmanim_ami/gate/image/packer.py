"""The template (DoD 1): packer fmt, init and validate, and what those don't know of it (read with python-hcl2).

Validated as a bare `packer validate .` and with every set of variables that the pipeline passes.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hcl2

from support.errors import Error, HostLacks
from zmanim_ami import toolchain
from zmanim_ami.gate.finding import Finding, line_of, numbered, skipped
from zmanim_ami.pipeline.ami import packer
from zmanim_ami.pipeline.ami.provenance import Provenance
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.settings import Reader, Settings, template_variables
from zmanim_ami.pipeline.version import parse
from zmanim_ami.toolchain.environment import user_cache

PACKER = Path("infrastructure/packer")
TEMPLATE = PACKER / "zmanim-ami.pkr.hcl"
VARIABLES = PACKER / "variables.pkr.hcl"
PLUGINS = PACKER / "plugins.pkr.hcl"
FIRST = "wait-for-cloud-init"
# How the source filter reads the versions file's base.
_BASE = "source_ami_filter.value"
LAST = ("remove-build-tools", "configure-systemd", "repositories", "cleanup", "validate", "inventory")
_EVERYBODY = "everybody may reach the builder"
# Options with the one value that they may have, as it is written there, and what another one means.
_OPTIONS_OF_SOURCE: Mapping[str, tuple[object, str, str]] = {
    "imds_support": ("v2.0", '"v2.0"', "instances of the image take IMDSv1 too"),
    "ssh_clear_authorized_keys": (True, "true", "the builder's key stays in the image"),
    **{
        option: (f"${{{expression}}}", expression, words)
        for option, expression, words in (
            (
                "enable_unlimited_credits",
                'can(regex("^t[0-9]", var.instance_type))',
                "a builder of a T type runs at a fraction of its processors",
            ),
            (
                "temporary_security_group_source_cidrs",
                'var.ssh_source_cidr == "" ? [] : [var.ssh_source_cidr]',
                _EVERYBODY,
            ),
            ("temporary_security_group_source_public_ip", 'var.ssh_source_cidr == ""', _EVERYBODY),
        )
    },
}
_READ_BY_PACKER = re.compile(r"infrastructure/packer/[^/]*$|(zmanim_ami|support|tools)/|requirements|pyproject")
# A provisioner of its own, or a word of the list that run-steps.sh gets.
_STEP = re.compile(r'script\s*=\s*"\$\{path\.root\}/scripts/([\w-]+)\.sh"|"([a-z]+(?:-[a-z]+)*)"(?=,)')
_SECRET = re.compile(r"password|secret|token|credential|access_key|private", re.IGNORECASE)
_OPTIONS = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True)

Block = Mapping[str, Any]


def check(tree: Path, changed: Collection[str] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with what the template means, and then what Packer says of it.

    Packer reads the template and the versions file; of a script or a shipped file it asks only whether it is there.
    """
    unread = changed is not None and all((tree / name).exists() and not _READ_BY_PACKER.match(name) for name in changed)
    yield from _by_meaning(tree)
    if not unread:
        yield from _by_packer(tree)


def _by_meaning(tree: Path) -> Iterator[Finding]:
    try:
        variables = declared(tree)
        template = _read(tree / TEMPLATE)
        plugins = _read(tree / PLUGINS)
    except Exception as error:
        yield Finding(str(PACKER), 0, f"can't be read as HCL: {str(error).splitlines()[0]}")
        return
    yield from _variables(tree, variables)
    yield from _handed_over(tree, variables)
    yield from _source(tree, template["source"][0]["amazon-ebs"]["al2023"], variables)
    yield from _steps(tree)
    yield from _pinned(tree, plugins)


def declared(tree: Path) -> dict[str, Block]:
    """Return the template's variables, their blocks as python-hcl2 reads them, by name."""
    return {name: body for block in _read(tree / VARIABLES)["variable"] for name, body in block.items()}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = hcl2.loads(path.read_text(), serialization_options=_OPTIONS)
    return content


def _by_packer(tree: Path) -> list[Finding]:
    try:
        tools = toolchain.tools(user_cache())
        env = toolchain.environment(tools, os.environ)
        packer.validate(tree, env)
        with tempfile.TemporaryDirectory(prefix="bundle-") as directory:
            for values in passed(tree, Path(directory)):
                packer.validate(tree, env, values)
    except HostLacks as lacks:
        return [skipped(lacks, "the template, by Packer itself")]
    except Error as error:
        return [Finding(_file_of(str(error)), 0, str(error))]
    return []


def _file_of(words: str) -> str:
    match = re.search(r"[\w-]+\.pkr\.hcl", words)
    return str(PACKER / match[0]) if match else str(PACKER)


def passed(tree: Path, bundle: Path, now: datetime | None = None) -> list[dict[str, Value]]:
    """Return every set of variables that the pipeline passes to Packer in CI: a release, by either route."""
    made_by = Provenance("0" * 40, "0" * 64, "packer 1.15.0")
    return [
        packer.variables(
            tree,
            settings,
            parse("v1.2.3"),
            bundle,
            made_by,
            package_cache=str(bundle),
            ssh_source_cidr="192.0.2.7/32",
            deprecate_at=packer.deprecation(settings, now or datetime.now(UTC)),
        )
        for settings in (
            Settings(),
            Settings(postgresql_repo="pgdg", deprecate_days=1, instance_type="c7g.large", ami_users=("123456789012",)),
        )
    ]


def _variables(tree: Path, variables: Mapping[str, Block]) -> Iterator[Finding]:
    declared = (tree / VARIABLES).read_text()
    used = "\n".join(
        line for path in sorted((tree / PACKER).glob("*.pkr.hcl")) for _, line in numbered(path.read_text())
    )
    for name, body in variables.items():
        location = (str(VARIABLES), line_of(declared, f'variable "{name}"'))
        # Its own validation is no use.
        uses = len(re.findall(rf"\bvar\.{name}\b", used)) - len(
            re.findall(rf"\bvar\.{name}\b", str(body.get("validation", "")))
        )
        if uses < 1:
            yield Finding(*location, f"variable {name} is declared and not used")
        if len(str(body.get("description", ""))) < 10:
            yield Finding(*location, f"variable {name} has no description")
        if "type" not in body:
            yield Finding(*location, f"variable {name} has no type")
        if _SECRET.search(name) and body.get("default"):
            yield Finding(*location, f"variable {name} has a default that looks like a secret")


def _handed_over(tree: Path, variables: Mapping[str, Block]) -> Iterator[Finding]:
    """Compare the variables with what settings.py hands over: of a wrong name `packer build` says nothing."""
    declared = {name: str(body.get("type", "")).strip("${}") for name, body in variables.items()}
    expected = template_variables()
    defaults = Settings().read_by(Reader.TEMPLATE, Reader.IMAGE_CONTENT)
    text = (tree / VARIABLES).read_text()
    for name in sorted(expected.keys() - declared.keys()):
        yield Finding(str(VARIABLES), 0, f"variable {name} is handed over by settings.py and not declared")
    for name, kind in declared.items():
        line = line_of(text, f'variable "{name}"')
        if name not in expected:
            yield Finding(str(VARIABLES), line, f"variable {name} is declared, and settings.py does not hand it over")
        elif kind != expected[name]:
            yield Finding(
                str(VARIABLES), line, f"variable {name} is a {kind}, and settings.py hands over a {expected[name]}"
            )
        elif name in defaults and (default := variables[name].get("default")) != _plain(defaults[name]):
            yield Finding(str(VARIABLES), line, f"variable {name} is {default!r} by default, and its setting is not")


def _plain(value: Value) -> object:
    return list(value) if isinstance(value, tuple) else value


def _source(tree: Path, source: Block, variables: Mapping[str, Block]) -> Iterator[Finding]:
    text = (tree / TEMPLATE).read_text()

    def at(part: str, words: str) -> Finding:
        return Finding(str(TEMPLATE), line_of(text, part), words)

    filters = [block["source_ami_filter"] for block in source.get("dynamic", []) if "source_ami_filter" in block]
    content = filters[0]["content"][0] if filters else source.get("source_ami_filter", [{}])[0]
    name = str(content.get("filters", {}).get("name", ""))
    if content.get("owners") != ["amazon"]:
        yield at("owners", 'the source image is whoever\'s has that name: owners = ["amazon"]')
    architecture = str(content.get("filters", {}).get("architecture"))
    if architecture != "arm64":
        yield at("architecture", "the source image is not an arm64 one")
    # Of the minimal and the ECS images only the middle of the name is another one, and a filter whose parts contradict
    # each other finds nothing, or something else.
    expected = f"al2023-ami-${{{_BASE}.release}}.*-kernel-${{{_BASE}.kernel}}-{architecture}"
    if name != expected:
        words = f"{name!r} does not come from the release that versions.json pins: {expected!r}"
        yield at("al2023-ami", f"the source image's name {words}")
    for_each = str(filters[0].get("for_each", "")) if filters else ""
    if "local.versions.base" not in for_each:
        yield at("for_each", "the source filter does not read the versions file's base")
    options = source.get("metadata_options", [{}])[0]
    if options.get("http_tokens") != "required" or options.get("http_endpoint") != "enabled":
        yield at("metadata_options", 'the builder takes IMDSv1 too: http_tokens = "required"')
    for block in source.get("launch_block_device_mappings", [{}]):
        if (
            "var.root_encrypted" not in str(block.get("encrypted"))
            or variables["root_encrypted"].get("default") is not True
        ):
            yield at("encrypted", "the root volume is not encrypted: encrypted = var.root_encrypted, by default true")
        if block.get("delete_on_termination") is not True:
            yield at("delete_on_termination", "the builder's volume stays behind: delete_on_termination = true")
    for option, (value, written, words) in _OPTIONS_OF_SOURCE.items():
        if source.get(option) != value:
            yield at(option, f"{words}: {option} = {written}")
    if "${var.version}" not in str(source.get("ami_name")):
        yield at("ami_name", "the image is not called zmanim-{version}")


def steps(text: str) -> list[str]:
    """Return the names of the steps that the template runs, in their order, the waiting for cloud-init first."""
    return [first or second for first, second in _STEP.findall(text)]


def _steps(tree: Path) -> Iterator[Finding]:
    text = "\n".join(line for _, line in numbered((tree / TEMPLATE).read_text()))
    build = text[text.index("\nbuild {") :] if "\nbuild {" in text else ""
    order = steps(build)
    line = line_of((tree / TEMPLATE).read_text(), "run-steps.sh")
    scripts = {path.stem for path in (tree / PACKER / "scripts").glob("*.sh")}
    if not order or order[0] != FIRST:
        yield Finding(str(TEMPLATE), line, f"the first provisioner does not wait: {FIRST}")
    if tuple(order[-len(LAST) :]) != LAST:
        yield Finding(
            str(TEMPLATE), line, f"the last steps are {' '.join(order[-len(LAST) :])}, and should be {' '.join(LAST)}"
        )
    for name in order:
        if name not in scripts:
            yield Finding(str(TEMPLATE), line, f"runs the step {name}, and there is no scripts/{name}.sh")
    other = "\n".join(
        line for path in sorted((tree / PACKER / "scripts").glob("*.sh")) for _, line in numbered(path.read_text())
    )
    for path in sorted((tree / PACKER / "scripts").iterdir()):
        if path.is_file() and path.stem not in order and path.name not in other and path.name not in build:
            yield Finding(str(PACKER / "scripts" / path.name), 0, "nothing runs it")


def _pinned(tree: Path, plugins: Block) -> Iterator[Finding]:
    text = (tree / PLUGINS).read_text()
    for name, plugin in plugins["packer"][0]["required_plugins"][0].items():
        if isinstance(plugin, Mapping) and not re.fullmatch(r"= \d+\.\d+\.\d+", str(plugin.get("version"))):
            yield Finding(str(PLUGINS), line_of(text, "version ="), f'the plugin {name} floats: version = "= X.Y.Z"')
    for path in sorted((tree / PACKER).glob("*.pkr.hcl")):
        for number, line in numbered(path.read_text()):
            if re.search(r"(?<![\w-])latest(?![\w-])", line):
                yield Finding(str(path.relative_to(tree)), number, "latest: something here floats")
