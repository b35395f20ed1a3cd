"""Which Debian packages an RPM must carry so that its programs run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from support.errors import Error


@dataclass(frozen=True)
class Graph:
    """Debian's dependencies: for each package its groups of alternatives, and who provides a virtual name."""

    depends: Mapping[str, Sequence[Sequence[str]]]
    providers: Mapping[str, Sequence[str]]


def parse(text: str) -> Graph:
    """Read the output of `apt-cache depends --important --recurse`."""
    depends: dict[str, list[list[str]]] = {}
    providers: dict[str, list[str]] = {}
    package = target = ""
    alternatives: list[str] = []
    for line in text.splitlines():
        if not line.startswith(" "):
            package = line.strip()
            depends.setdefault(package, [])
        elif line.startswith("    "):
            providers.setdefault(target, []).append(line.strip())
        else:
            # A bar before a dependency says that the next line is an alternative to it.
            target = line.split(": ", 1)[1].strip()
            alternatives.append(target)
            if not line.startswith(" |"):
                depends[package].append(alternatives)
                alternatives = []
    return Graph(depends, providers)


def closure(
    graph: Graph, packages: Sequence[str], present: Collection[str], left_out: Callable[[str], bool]
) -> list[str]:
    """Return `packages` and all that they depend on, without what is `present` or `left_out`, in a stable order.

    Of alternatives the first is taken, unless one is present, taken already or left out.
    Raises `package-unknown` for a name that the graph does not have.
    """
    taken: dict[str, None] = {}
    ahead = list(packages)
    while ahead:
        name = ahead.pop(0)
        if name in taken:
            continue
        if name not in graph.depends:
            raise Error(
                f"Debian has no package {name}",
                code="package-unknown",
                expected="every package of packages.toml.j2",
                found="apt does not know it",
            )
        taken[name] = None
        for group in graph.depends[name]:
            real = [each for target in group for each in graph.providers.get(target, [target])]
            if not any(each in present or each in taken or left_out(each) for each in real):
                ahead.append(real[0])
    return list(taken)
