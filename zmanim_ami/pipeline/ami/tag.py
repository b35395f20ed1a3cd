"""check-tag: whether what is checked out may become a release, before anything is asked of AWS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.errors import BadInput
from support.git import git
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.pipeline.version import Version, from_tag

_TAGS = "refs/tags/"


@dataclass(frozen=True)
class Checked:
    """A version and the commit that it is made from."""

    version: str
    commit: str


def check(root: Path, ref: str, version: Version) -> Checked:
    """Return the version and commit of the clone at `root`, checked out for `ref` (refs/tags/v1.2.3-ami, or a branch).

    Raises `version-invalid`, `tag-wrong` (a tag of another version or commit, a changed tree, a test image),
    `not-on-main`, `not-a-clone`.
    """
    commit = provenance.commit(root)
    if ref.startswith(_TAGS):
        tag = ref.removeprefix(_TAGS)
        requested = from_tag(tag)
        if requested != version:
            raise BadInput(
                f"the tag {tag} is not one of {version}",
                code="tag-wrong",
                expected=f"{version}-ami",
                found=tag,
                fix="give its version",
            )
        tagged = _commit_of(root, ref)
        if tagged != commit:
            raise BadInput(
                f"what is checked out is not what {tag} names",
                code="tag-wrong",
                expected=tagged or "a tag of that name",
                found=commit,
                fix="check the tag out, with nothing changed",
            )
    else:
        # Started by hand for a version whose tag is there: that image is of the tagged commit, by whatever way.
        tag = f"{version}-ami"
        tagged = _commit_of(root, f"{_TAGS}{tag}")
        if tagged and tagged != commit:
            raise BadInput(
                f"{version} has a tag, and what is checked out is another commit",
                code="tag-wrong",
                expected=f"{tagged}, which {tag} names",
                found=commit,
                fix=f"start the workflow for the tag: gh workflow run build-ami.yml --ref {tag}",
            )
    if commit.endswith("-dirty") or version.test_image:
        raise BadInput(
            f"{version} can't be released from here",
            code="tag-wrong",
            expected="a version of a release, and a work tree that is its commit",
            found=f"{'a test image' if version.test_image else 'a release'}, {commit}",
            fix="commit what differs, and tag that",
        )
    # No answer is an answer here: there is no such branch, or no common ancestor.
    main = _commit_of(root, "refs/remotes/origin/main")
    if not main or git(root, "merge-base", commit, main, check=False).strip() != commit:
        raise BadInput(
            f"{commit[:12]} is not on main",
            code="not-on-main",
            expected="a commit in the history of origin/main",
            found=f"origin/main is {main[:12] or 'not here'}",
            fix="merge it first, then tag the commit that is on main" if main else "fetch main with its whole history",
        )
    return Checked(str(version), commit)


def _commit_of(root: Path, ref: str) -> str:
    return git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False).strip()
