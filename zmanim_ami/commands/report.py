"""The evidence page of what was rehearsed or verified."""

from __future__ import annotations

import os

from zmanim_ami.commands.shared import ROOT, command, connect
from zmanim_ami.evidence import make
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.images import advisories
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse


@command(
    "region",
    version="the version (default: what was rehearsed or verified last; with --kept, what is published)",
    kept="of the report that the account keeps, whatever was made here",
)
def report(settings: Settings, version: str = "", kept: bool = False) -> make.Written:
    """Write the evidence page: what was proven of an image and what was not, as one HTML file.

    Of the newest rehearsal or verification below build/, next to its report, without asking anybody. With --kept it
    reads the account, and changes nothing there.
    """
    if not kept:
        return make.make(ROOT, str(parse(version)) if version else "")
    clients = connect(settings)
    wanted = parse(version) if version else advisories.published(clients, settings)
    return make.make_kept(clients, settings, ROOT, wanted, aws.target(clients, os.environ))
