"""Debian 13 dressed as Amazon Linux 2023, for a cloud on this machine.

The tree has the real dnf, rpm, cloud-init, sshd, systemd and AWS CLI, and local repositories whose thin RPMs have
Amazon Linux's names, units, users and paths and carry Debian's programs. Beside it lies a mirror: the sources that the
image builds from. docs/rehearsal.md says what this proves and what only Amazon Linux can.
"""

from zmanim_ami.rehearsal.standin.assembly import build, build_tree

__all__ = ["build", "build_tree"]
