"""No secret in the tree: detect-secrets over every file, less what is known to be none."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from zmanim_ami.gate import changes
from zmanim_ami.gate.finding import Finding, files

# Checksums by the thousand, which nobody types by hand.
_CHECKSUMS = {
    "requirements.txt",
    "requirements-gate.txt",
    "requirements-clients.txt",
    "requirements-mutation.txt",
    "requirements-report.txt",
    "go.sum",
}
# What decides what a secret is.
_RULES = ("zmanim_ami/gate/repository/secrets.py", "requirements-gate.txt")
# By what looks like a key whatever its name; everywhere, tests too.
_SHAPES = tuple(
    f"{name}Detector"
    for name in (
        *("AWSKey", "PrivateKey", "GitHubToken", "GitLabToken", "Slack", "Stripe", "TwilioKey", "SendGrid", "Npm"),
        *("PypiToken", "OpenAI", "JwtToken", "AzureStorageKey", "DiscordBotToken", "TelegramBotToken", "Mailchimp"),
        *("SquareOAuth", "Artifactory"),
    )
)
# By how it is written down. Tests have passwords of their own.
_WORDS = ("BasicAuthDetector", "KeywordDetector")
_ENTROPY = ("Base64HighEntropyString", "HexHighEntropyString")
# Lines that look like a secret and are none, each with its reason.
_KNOWN = (
    (r'"sha256": "[0-9a-f]{64}"', "a checksum"),
    (r"__[a-z0-9-]+__", "a placeholder"),
    (r"uses: \S+@[0-9a-f]{40}", "a commit"),
    (r"No secret: the repository's password comes from Parameter Store", "prose"),
    (r'SECRET = "localcloud"', "what a local cloud takes"),
    (r"/etc/pki/rpm-gpg/RPM-GPG-KEY", "a path of public keys"),
    (r"lock_passwd|passwd:|ssh_pwauth|NOPASSWD:ALL", "cloud-init's own settings"),
)
_EXCUSED = re.compile("|".join(f"(?:{pattern})" for pattern, _ in _KNOWN))


def check(tree: Path, changed: Collection[str] | None = None) -> list[Finding]:
    """Return each line that holds what looks like a secret, never the secret itself; with `changed`, of these files.

    All of them take seconds, so a file without one is not scanned again while it stays the same.
    """
    names = [str(path) for path in files(tree) if path.name not in _CHECKSUMS]
    passed = changes.passed(tree, "secrets-files")
    digests = changes.digests(tree, {name: [name, *_RULES] for name in names})
    stale = [name for name in names if passed.get(name) != digests[name] and (changed is None or name in changed)]
    results = {name: _scan(tree, name) for name in stale}
    changes.save(tree, "secrets-files", passed | {name: digests[name] for name in stale if not results[name]})
    return [finding for findings in results.values() for finding in findings]


def _scan(tree: Path, name: str) -> list[Finding]:
    plugins = _SHAPES if name.startswith("tests/") else (*_SHAPES, *_WORDS, *_ENTROPY)
    secrets = SecretsCollection(root=str(tree))
    with transient_settings({"plugins_used": [{"name": plugin} for plugin in plugins]}):
        secrets.scan_file(name)
    lines = (tree / name).read_text(errors="replace").splitlines()
    looks = sorted({(secret.line_number, secret.type) for _, secret in secrets})
    excused = {line for line, _ in looks if _EXCUSED.search(lines[line - 1])}
    return [Finding(name, line, f"looks like a secret: {kind}") for line, kind in looks if line not in excused]
