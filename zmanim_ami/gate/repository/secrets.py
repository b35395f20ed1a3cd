"""No secret in the tree: detect-secrets over every file, less what is known to be none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detect_secrets.__version__ import VERSION
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from support.digest import text_sha256
from zmanim_ami.gate import cache
from zmanim_ami.gate.finding import Finding, files

# Checksums by the thousand, which nobody types by hand.
_CHECKSUMS = {"requirements.txt", "requirements-mutation.txt", "go.sum"}
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
    (r'"AWS_SECRET_ACCESS_KEY": "localcloud"', "what a local cloud takes"),
    (r"/etc/pki/rpm-gpg/RPM-GPG-KEY", "a path of public keys"),
    (r"lock_passwd|passwd:|ssh_pwauth|NOPASSWD:ALL", "cloud-init's own settings"),
)
_EXCUSED = re.compile("|".join(f"(?:{pattern})" for pattern, _ in _KNOWN))


def check(tree: Path) -> list[Finding]:
    """Return each line that holds what looks like a secret; never the secret itself."""
    return [
        Finding(str(path), line, f"looks like a secret: {kind}")
        for path, text, found in _scanned(tree)
        for line, kind in found
        if not _EXCUSED.search(text.splitlines()[line - 1])
    ]


def _scanned(tree: Path) -> Iterator[tuple[Path, str, list[tuple[int, str]]]]:
    """Yield each file with its text and what detect-secrets says of it.

    It takes seconds for all of them, so what it said is kept, by the digest of what it was asked.
    """
    before = cache.load(tree, "secrets")
    after: dict[str, list[tuple[int, str]]] = {}
    for path in files(tree):
        if path.name in _CHECKSUMS:
            continue
        plugins = _SHAPES if path.parts[0] == "tests" else (*_SHAPES, *_WORDS, *_ENTROPY)
        text = (tree / path).read_text(errors="replace")
        # By its name too: how a line is read depends on the kind of file.
        asked = text_sha256(VERSION, *plugins, str(path), text)
        after[asked] = before[asked] if asked in before else _scan(tree, path, plugins)
        yield path, text, after[asked]
    cache.save(tree, "secrets", after)


def _scan(tree: Path, path: Path, plugins: Sequence[str]) -> list[tuple[int, str]]:
    secrets = SecretsCollection(root=str(tree))
    with transient_settings({"plugins_used": [{"name": name} for name in plugins]}):
        secrets.scan_file(str(path))
    return sorted({(secret.line_number, secret.type) for _, secret in secrets})
