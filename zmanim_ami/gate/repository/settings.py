"""What the settings choose stands in the settings alone: a second literal of it would go on after it was changed.

Tests and pages are not looked at: they say what comes out, as an example.
"""

from __future__ import annotations

from pathlib import Path

from zmanim_ami.gate.finding import Finding, files
from zmanim_ami.pipeline.settings import Settings

_HOME = "zmanim_ami/pipeline/settings.py"
_LOOKED_AT = ("zmanim_ami", "infrastructure", "localcloud", ".github")
# Which settings are facts of an account or of its owner.
_NAMES = ("region", "backups_bucket", "releases_bucket", "mail_from", "mail_to")
# Where one stands as well, each with its reason.
_KNOWN = {
    ("infrastructure/packer/variables.pkr.hcl", "region"): "the default of a bare `packer build .`",
    ("localcloud/settings.py", "region"): "a cloud has a region of its own, and knows nothing of zmanim",
}


def check(tree: Path) -> list[Finding]:
    """Return each line that holds what a setting chooses, but for those that are known."""
    values = {name: str(getattr(Settings, name)).partition("{environment}")[0] for name in _NAMES}
    return [
        Finding(str(path), number, f"{value} is chosen by the setting {name} ({_HOME}): take it from there")
        for path in files(tree)
        if path.parts[0] in _LOOKED_AT and str(path) != _HOME
        for number, line in enumerate((tree / path).read_text("utf-8", "replace").splitlines(), 1)
        for name, value in values.items()
        if value in line and (str(path), name) not in _KNOWN
    ]
