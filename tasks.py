"""The task list is the user interface: `./inv --list`, `./inv TASK --help`.

The tasks are in zmanim_ami/commands: they parse, call one function and print its result; what they do lives in
pipeline, rehearsal and toolchain beside it. stdout holds only the result, everything else goes to stderr. Exit codes:
0 done, 1 failed, 2 bad input or refused, 3 this host lacks something, 130 interrupted.
"""

from __future__ import annotations

from invoke.collection import Collection

from zmanim_ami.commands import (
    account,
    backup,
    cloud,
    host,
    image,
    images,
    instances,
    mistakes,
    release,
    report,
    upkeep,
)

mistakes.explain()

namespace = Collection(
    image.build_binary,
    image.validate,
    image.build_ami,
    image.verify_ami,
    image.publish_ssm,
    image.check_tag,
    image.show_verification,
    Collection(
        "image",
        list=images.list_images,
        show=images.show,
        history=images.history,
        diff=images.diff,
        sbom=images.sbom,
        advisories=images.advisories,
        check=images.check,
        promote=images.promote,
        rollback=images.rollback,
        retire=images.retire,
    ),
    Collection("instance", list=instances.list_instances, launch=instances.launch, swap=instances.swap),
    upkeep.sweep,
    upkeep.bump,
    upkeep.lock,
    host.rehearse,
    host.base_image,
    host.bench,
    host.resolve_packages,
    host.write_contents,
    report.report,
    host.doctor,
    host.settings,
    Collection("release", publish=release.publish, rollback=release.rollback),
    Collection("tools", env=host.tools_env),
    Collection("account", plan=account.plan, apply=account.apply),
    backup.recovery_drill,
    Collection(
        "backup",
        now=backup.now,
        list=backup.list_runs,
        drill=backup.drill,
        restore=backup.restore,
        adopt=backup.adopt,
    ),
    Collection(
        "cloud", up=cloud.up, env=cloud.env, ps=cloud.ps, shell=cloud.shell, console=cloud.console, down=cloud.down
    ),
)
