"""The task list is the user interface: `./inv --list`, `./inv TASK --help`.

Tasks parse, call one function and print its result; what they do lives in pipeline/, rehearsal/ and toolchain/. stdout
holds only the result, everything else goes to stderr. Exit codes: 0 done, 1 failed, 2 bad input or refused, 3 this host
lacks something, 130 interrupted.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task
from rich.console import Console

import toolchain
from bench import run as benching
from localcloud import control
from pipeline import account, aws, binary, contents_page, packer, provenance
from pipeline import build as building
from pipeline import publish as publishing
from pipeline import resolve as resolving
from pipeline import settings as all_settings
from pipeline import verify as verifying
from pipeline.aws import Clients
from pipeline.settings import Settings
from pipeline.version import Version, parse
from pipeline.workshop import workshop
from rehearsal import cloud, host, report
from rehearsal import run as rehearsing
from support.cache import user_cache
from support.errors import Fault
from support.output import show
from support.process import interrupt_on_termination
from support.progress import say
from toolchain.go import go

ROOT = Path(__file__).parent
POLICIES = ROOT / "infrastructure" / "iam"

VERSION = {"version": "the version: v1.2.3, v1.2.3-rc.1, or test-… for a trial that is never published"}
JSON = {"json": "print the result as JSON"}
REGION = {"region": "AWS region (setting region)"}
CLOUD_NAME = {"name": "which cloud, when there are several (default: `default`, or the only one)"}


def command(**help: str) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a task of a function: no positional arguments, faults as messages, interruptions as exit code 130.

    `positional=[]` because Invoke would take `--help` for a required argument's value and run the task.
    """

    def decorate(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def body(context: Context, **arguments: Any) -> None:
            interrupt_on_termination()
            try:
                function(context, **arguments)
            except Fault as fault:
                raise Exit(str(fault), code=fault.exit_code) from None
            except KeyboardInterrupt:
                raise Exit("interrupted: what was begun has been cleaned up", code=130) from None

        made: Task[Any] = task(positional=[], help=help)(body)
        return made

    return decorate


@command(**VERSION, api_dir="source tree of the API (setting api_dir)", **JSON)
def build_binary(_context: Context, version: str = "", api_dir: str = "", json: bool = False) -> None:
    """Build the API for linux/arm64, with its migrations, into build/bundle/VERSION.

    Changes nothing outside build/. Does nothing when nothing has changed.
    """
    show(_bundle(_settings(api_dir=api_dir), parse(version)), json)


@command()
def validate(_context: Context) -> None:
    """Check the Packer template as it stands: format, init, validate. Asks no cloud, changes nothing."""
    packer.validate(ROOT, toolchain.environment(toolchain.tools(user_cache()), os.environ))
    say("the template is valid")


@command(
    **VERSION,
    replace="give up an image of this name that is neither verified nor published",
    api_dir="source tree of the API (setting api_dir)",
    source_ami_id="build from exactly this image (setting source_ami_id)",
    instance_type="instance type of the builder (setting instance_type)",
    postgresql_repo="whose PostgreSQL: amazonlinux or pgdg (setting postgresql_repo)",
    package_cache="--no-package-cache compiles everything anew instead of using what earlier builds compiled",
    **REGION,
    **JSON,
)
def build_ami(
    context: Context,
    version: str = "",
    replace: bool = False,
    api_dir: str = "",
    source_ami_id: str = "",
    instance_type: str = "",
    postgresql_repo: str = "",
    package_cache: bool = True,
    region: str = "",
    json: bool = False,
) -> None:
    """Build the image zmanim-VERSION with Packer, or reuse the equal one that exists.

    In the account: a builder, key pair and security group that go away again; the image and its snapshot, which stay.
    Builds the API's binary and validates the template first. --dry shows the plan.
    """
    chosen = _settings(
        api_dir=api_dir,
        source_ami_id=source_ami_id,
        instance_type=instance_type,
        postgresql_repo=postgresql_repo,
        region=region,
    )
    wanted = parse(version)
    result = building.build_ami(
        _clients(chosen),
        chosen,
        wanted,
        root=ROOT,
        cache=user_cache(),
        workshop=workshop(ROOT, user_cache(), os.environ, lambda each: _bundle(chosen, each).directory),
        replace=replace,
        package_cache=package_cache,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(**VERSION, ami_id="verify exactly this image instead of a version's", **REGION, **JSON)
def verify_ami(context: Context, version: str = "", ami_id: str = "", region: str = "", json: bool = False) -> None:
    """Launch one instance of an image, wait until it says it is ready, check what it runs, and tag the image.

    In the account: an instance with a data volume that go away again; the image's tag zmanim:verified, which
    publish-ssm asks for. --dry shows the plan.
    """
    chosen = _settings(region=region)
    wanted = parse(version) if version or not ami_id else None
    result = verifying.verify_ami(
        _clients(chosen),
        chosen,
        root=ROOT,
        pace=aws.pace(os.environ),
        version=wanted,
        ami_id=ami_id,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(**VERSION, ami_id="publish exactly this image instead of a version's", **REGION, **JSON)
def publish_ssm(context: Context, version: str = "", ami_id: str = "", region: str = "", json: bool = False) -> None:
    """Write a verified image's id and version to SSM; does nothing when they stand there already.

    In the account: the parameters ami-id and ami-version below the setting parameter_prefix. Refuses an image that is
    not verified, not available, not this account's, or a trial; nothing overrides that. --dry shows the plan.
    """
    chosen = _settings(region=region)
    wanted = parse(version) if version or not ami_id else None
    publishing.refuse_trial(wanted)  # before anybody is asked who we are
    result = publishing.publish(
        _clients(chosen),
        chosen,
        pace=aws.pace(os.environ),
        version=wanted,
        ami_id=ami_id,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(environment="prod, verify, …", **REGION, **JSON)
def account_plan(_context: Context, environment: str = "prod", region: str = "", json: bool = False) -> None:
    """Show what an account still needs for an environment: buckets, secrets, roles, network. Changes nothing."""
    chosen = _settings(region=region)
    show(account.plan(_clients(chosen), environment, policies=POLICIES, subnet_id=chosen.subnet_id), json)


@command(environment="prod, verify, …", **REGION, **JSON)
def account_apply(context: Context, environment: str = "prod", region: str = "", json: bool = False) -> None:
    """Make what account.plan shows, and nothing else. Safe to run twice; --dry is account.plan."""
    chosen = _settings(region=region)
    clients = _clients(chosen)
    changes = account.plan(clients, environment, policies=POLICIES, subnet_id=chosen.subnet_id)
    if not context.config.run.dry:
        account.apply(clients, changes)
    show(changes, json)


@command(
    **VERSION,
    keep="leave the cloud running at the end",
    install="--no-install refuses to install missing Debian packages",
    **JSON,
)
def rehearse(
    _context: Context, version: str = "", keep: bool = False, install: bool = True, json: bool = False
) -> None:
    """Go from this clone to a published, booted image on this machine: the production tasks against a cloud of our own.

    Changes this machine: installs missing Debian packages (asks once on a terminal), fills the user's cache; the cloud
    goes away at the end. Needs root. Writes build/rehearsal/result.json.
    """
    options = rehearsing.Options(
        version=str(parse(version)),
        root=ROOT,
        cache=user_cache(),
        state=cloud.STATE,
        keep=keep,
        install=install,
        confirm=sys.stdin.isatty() and not os.environ.get("CI"),
    )
    result = rehearsing.rehearse(options)
    if json:
        sys.stdout.write(result.as_json())
    else:
        report.show(result, Console())


@command(
    only=f"one of {', '.join(benching.BENCHMARKS)}; may be given several times (default: all)",
    runs="how often each is run (default: as often as each has it)",
    **JSON,
)
def bench(_context: Context, only: list[str] | None = None, runs: int = 0, json: bool = False) -> None:
    """Time boots, bakes and rehearsals on a local cloud, and write build/bench/NAME.json. Needs root; takes a while.

    Starts a cloud of its own and takes it down. Nothing fails for being slow.
    """
    show(benching.bench(ROOT, user_cache(), cloud.STATE, only=only or (), runs=runs), json)


bench.iterable = ["only"]


@command(postgresql_repo=all_settings.help_for("postgresql_repo"), **JSON)
def resolve_packages(_context: Context, postgresql_repo: str = "", json: bool = False) -> None:
    """Check, inside an Amazon Linux 2023, that dnf finds every package of a route at the pinned release.

    Installs there the one package that brings the route's repository; nothing else changes. Exit code 1 when something
    is missing or too old, 3 on any other system.
    """
    route = _settings(postgresql_repo=postgresql_repo).postgresql_repo
    rows = resolving.resolve(ROOT, resolving.os_release(), route=route)
    show(rows, json)
    resolving.check(rows)


@command(**JSON)
def contents(_context: Context, json: bool = False) -> None:
    """Write docs/ami-contents.md anew from infrastructure/packer; a test fails when it is out of date."""
    show(contents_page.write(ROOT), json)


@command(install="install the Debian packages that are missing", **JSON)
def doctor(_context: Context, install: bool = False, json: bool = False) -> None:
    """Show what this host has and lacks for a rehearsal, with the fix; exit code 3 when it lacks something.

    Changes nothing, or with --install only what apt-get installs.
    """
    if install:
        host.install_missing()
    found = host.findings(cloud.STATE)
    show(found, json)
    if not all(finding.ok for finding in found):
        raise host.HostIncomplete(found)


@command()
def tools_env(_context: Context) -> None:
    """Print shell lines that put the pinned Packer and its plugin on PATH: eval "$(./inv tools.env)".

    Builds them into the user's cache first when they are not there; changes nothing else.
    """
    sys.stdout.write(toolchain.exports(toolchain.tools(user_cache())))


@command(**JSON)
def settings(_context: Context, json: bool = False) -> None:
    """Show every setting, its value and where it came from: pyproject.toml, ZMANIM_<FIELD> or the default."""
    show(all_settings.explain(ROOT, os.environ), json)


@command(**CLOUD_NAME, **JSON)
def cloud_up(_context: Context, name: str = "default", json: bool = False) -> None:
    """Start a local cloud: an EC2 on this machine whose instances are real booted machines. Needs root.

    Up already is a success. Its base image, mirror and account are those of a rehearsal.
    """
    prepared = cloud.prepare(ROOT, user_cache())
    show(cloud.start(name, prepared, cloud.STATE, POLICIES), json)


@command(**CLOUD_NAME)
def cloud_env(_context: Context, name: str = "") -> None:
    """Print shell lines that point every AWS client at the local cloud: eval "$(./inv cloud.env)".

    With the cloud down they point at nothing and end in `false`, so that nothing can reach the real AWS by mistake.
    """
    sys.stdout.write(cloud.exports(name, cloud.STATE, ROOT))


@command(**CLOUD_NAME, **JSON)
def cloud_ps(_context: Context, name: str = "", json: bool = False) -> None:
    """List the machines of a local cloud."""
    show(control.machines(cloud.running(name, cloud.STATE)), json)


@command(instance="the instance's id (default: the only one that runs)", **CLOUD_NAME)
def cloud_shell(_context: Context, instance: str = "", name: str = "") -> None:
    """Open a root shell in a machine of a local cloud."""
    found = cloud.running(name, cloud.STATE)
    argv = control.shell_command(found, cloud.instance_id(found, instance))
    os.execvp(argv[0], argv)


@command(instance="the instance's id (default: the only one that runs)", **CLOUD_NAME)
def cloud_console(_context: Context, instance: str = "", name: str = "") -> None:
    """Print what a machine of a local cloud has said on its console."""
    found = cloud.running(name, cloud.STATE)
    sys.stdout.write(control.console(found, cloud.instance_id(found, instance)))


@command(**CLOUD_NAME)
def cloud_down(_context: Context, name: str = "") -> None:
    """Take local clouds down, and whatever a killed rehearsal left on this machine; with --name only that cloud.

    Removes their instances, volumes and images for good. A rehearsal that is running is left alone.
    """
    cloud.down(name, cloud.STATE)


def _bundle(chosen: Settings, version: Version) -> binary.Bundle:
    made_by = go(user_cache())
    return binary.build(
        ROOT / chosen.api_dir, str(version), provenance.commit(ROOT), ROOT / "build" / "bundle", made_by
    )


def _settings(**flags: object) -> Settings:

    return all_settings.load(ROOT, os.environ, flags)


def _clients(chosen: Settings) -> Clients:
    """Connect, and say in the first line to whom."""
    clients = aws.connect(chosen.region)
    say(aws.target(clients, os.environ))
    return clients


namespace = Collection(
    build_binary,
    validate,
    build_ami,
    verify_ami,
    publish_ssm,
    rehearse,
    bench,
    resolve_packages,
    contents,
    doctor,
    settings,
    Collection("tools", env=tools_env),
    Collection("account", plan=account_plan, apply=account_apply),
    Collection(
        "cloud", up=cloud_up, env=cloud_env, ps=cloud_ps, shell=cloud_shell, console=cloud_console, down=cloud_down
    ),
)
