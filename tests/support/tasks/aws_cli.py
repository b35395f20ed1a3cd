"""`python -m tests.support.tasks.aws_cli WORDS`: the real AWS CLI, the stand-in's, where a host may have none."""

from __future__ import annotations

import os
import sys

from support.process import CommandFailed
from zmanim_ami.rehearsal.standin import build_tree
from zmanim_ami.rehearsal.standin.inside import inside
from zmanim_ami.toolchain.environment import user_cache

if __name__ == "__main__":
    chosen = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("AWS_")]
    try:
        words = ["env", "HOME=/tmp", *chosen, "aws", *sys.argv[1:]]
        sys.stdout.write(inside(build_tree(user_cache()) / "root", words).stdout)
    except CommandFailed as failure:
        sys.exit(str(failure))
