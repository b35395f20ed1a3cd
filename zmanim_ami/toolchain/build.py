"""The tools that an image is built with: built once from their pinned sources, then taken from the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from support.cache import cache_entry, cached_directory
from support.digest import file_sha256, text_sha256
from support.errors import Error, HostLacks
from support.parallel import side_by_side
from support.process import CommandFailed, run
from support.progress import say, step
from zmanim_ami.toolchain.environment import Tools, environment, on_path
from zmanim_ami.toolchain.go import ARCHITECTURES, Go, build_info, go
from zmanim_ami.toolchain.go_caches import for_tools, sources_of_tools
from zmanim_ami.toolchain.gobuild import HOST_ONLY, SHIPPED, STRIPPED, Source, compile_and_link, download
from zmanim_ami.toolchain.pins import Pin, pin

# Measured while they are built: 3.1 GB of sources, 1.8 GB of compiled packages, 0.3 GB of programs.
_NEEDED_BYTES = 6_000_000_000
_PLUGIN = "github.com/hashicorp/amazon"  # as plugins.pkr.hcl names it: Packer's short form of the plugin's module


@dataclass(frozen=True)
class _Plan:
    pin: Pin
    source: Source
    flags: tuple[str, ...]
    parent: Path
    digest: str

    @property
    def entry(self) -> Path:
        return cache_entry(self.parent, self.pin.name, self.digest)


def tools(cache: Path, needed_bytes: int = _NEEDED_BYTES) -> Tools:
    """Return Packer and its plugin, building what is not in `cache` yet (minutes on 2 cores, most of it Go compiling).

    A `packer` on PATH of exactly the pinned version is used instead of building one, but never in CI. What one build
    compiles is kept in Go's build cache for the next, so an interrupted run goes on where it was; the sources go when
    all is built (go_caches.py). `needed_bytes` is what has to be free on the disk before anything is built.

    Raises `no-go`, `modules-unavailable`, `module-checksum-wrong`, `go-build-failed`, `disk-full`,
    `tool-is-not-the-one-pinned`, `plugin-not-installed`, `pin-unreadable`.
    """
    made_by = go(cache)
    packer = _plan(cache, made_by, pin("packer"))
    plugin = _plan(cache, made_by, pin("packer-plugin-amazon"), packer.pin.version)
    theirs = None if packer.entry.is_dir() else packer_on_path(packer.pin.version)
    config = cache / "packer-config"
    config.mkdir(parents=True, exist_ok=True)
    with sources_of_tools(cache):
        packages = _download([plugin] if theirs else [packer, plugin], cache, needed_bytes)
        packer_program = theirs or _built(packer, made_by, packages) / "packer"

        def install(directory: Path) -> None:
            with step(f"installing {plugin.source.what} into Packer"):
                _install_plugin(Tools(packer_program, directory, config), directory / plugin.pin.name)

        return Tools(packer_program, _built(plugin, made_by, packages, install), config)


def program(cache: Path, name: str, *, shipped: str = "") -> Path:
    """Return a pinned tool's program, built into `cache` when it is not there yet.

    It is for this host; or, `shipped`, as the image has it: for Linux on that architecture (aarch64, x86_64), static.
    Raises what `tools` raises.
    """
    made_by = go(cache)
    plan = _plan(cache, made_by, pin(name), shipped=shipped)
    with sources_of_tools(cache):
        return _built(plan, made_by, _download([plan], cache, _NEEDED_BYTES)) / name


def packer_on_path(version: str, path: str | None = None) -> Path | None:
    """Return PATH's `packer` when it is of exactly that version (without a "v"), else None; in CI None.

    Any program may have that name (one of cracklib's has), so it gets no input and 10 seconds.
    """
    packer = on_path("packer", path)
    if packer is None:
        return None
    try:
        output = run([packer, "version"], env={**os.environ, "CHECKPOINT_DISABLE": "1"}, timeout=10).stdout
    except (CommandFailed, HostLacks, OSError, subprocess.TimeoutExpired):
        return None
    if output.splitlines()[:1] != [f"Packer v{version}"]:
        return None
    say(f"using {packer}, which is Packer {version}")
    return Path(packer)


def _plan(cache: Path, made_by: Go, pin: Pin, *more: str, shipped: str = "") -> _Plan:
    flags = (*(SHIPPED if shipped else HOST_ONLY), STRIPPED)
    target_environment = made_by.building_for("linux", ARCHITECTURES[shipped]) if shipped else made_by.environment
    build_environment = for_tools(target_environment, cache)
    target = f"{build_environment['GOOS']}/{build_environment['GOARCH']}"
    files = [file_sha256(pin.directory / name) for name in ("go.mod", "go.sum")]
    digest = text_sha256(*files, made_by.version, target, build_environment["GOFLAGS"], *flags, *more)
    source = Source(f"{pin.name} {pin.version}", pin.directory, pin.package, made_by.program, build_environment)
    return _Plan(pin, source, flags, cache / "tools", digest)


def _download(plans: Sequence[_Plan], cache: Path, needed_bytes: int) -> dict[str, int]:
    """Get the modules of those that are not built yet, all at once; return how many packages each has."""
    missing = [plan for plan in plans if not plan.entry.is_dir()]
    if not missing:
        return {}
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < needed_bytes:
        raise HostLacks(
            "there is too little disk to build the tools",
            code="disk-full",
            expected=f"{needed_bytes / 1e9:.0f} GB free below {cache}",
            found=f"{free / 1e9:.1f} GB",
            fix="free some space, or set XDG_CACHE_HOME to a larger disk",
        )
    with step(f"downloading the sources of {', '.join(plan.source.what for plan in missing)}"):
        counts = side_by_side([partial(download, plan.source) for plan in missing])
    return {plan.pin.name: count for plan, count in zip(missing, counts, strict=True)}


def _built(plan: _Plan, made_by: Go, packages: dict[str, int], then: Callable[[Path], None] | None = None) -> Path:
    def build(directory: Path) -> None:
        output = directory / plan.source.package.rpartition("/")[2]
        compile_and_link(plan.source, output, packages.get(plan.pin.name, 0), plan.flags)
        _check(plan, made_by, output)
        if then:
            then(directory)

    return cached_directory(plan.parent, plan.pin.name, plan.digest, build)


def _check(plan: _Plan, made_by: Go, output: Path) -> None:
    info = build_info(made_by, output)
    built = (info.version, info.settings.get("GOOS"), info.settings.get("GOARCH"))
    wanted = (f"v{plan.pin.version}", plan.source.environment["GOOS"], plan.source.environment["GOARCH"])
    if built != wanted:
        raise Error(
            f"{plan.source.what} was built, but is another program than was asked for",
            code="tool-is-not-the-one-pinned",
            expected=" ".join(wanted),
            found=" ".join(map(str, built)),
            fix=f"look at {plan.pin.directory / 'go.mod'}",
        )


def _install_plugin(tools: Tools, built: Path) -> None:
    command = [str(tools.packer), "plugins", "install", "--path", str(built), _PLUGIN]
    try:
        run(command, env=environment(tools, os.environ), timeout=120)
    except (CommandFailed, subprocess.TimeoutExpired) as failure:
        raise Error(
            "Packer would not install its Amazon plugin",
            code="plugin-not-installed",
            expected="`packer plugins install --path` ends with exit code 0",
            found=str(failure),
            fix="the lines above are Packer's own",
        ) from failure
    built.unlink()  # Packer keeps a copy of its own under its own name
