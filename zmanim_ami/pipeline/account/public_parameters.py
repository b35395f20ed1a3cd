"""What an account tells its machines and tasks that is no secret, in Parameter Store: bucket names, mail addresses.

An environment's instances read it with their secrets (zmanim_host/secrets/parameters.py), the tasks here. A bucket's
name is chosen once, by account.apply, and is what the parameter says from then on: whoever asks for it asks there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from support.errors import BadInput, Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.settings import Settings

KINDS = ("backups", "releases")
# Says that the environment's backups were begun, and where; what is in every restic repository is one such file.
MARKER = "backup/repository"
REPOSITORY = "restic/config"
# S3's user guide, "General purpose bucket naming rules".
LONGEST = 63


@dataclass(frozen=True)
class Bucket:
    """A bucket of a kind that is used, or is to be, and why that one."""

    kind: str
    name: str
    why: str


def parameter(environment: str, name: str) -> str:
    """Return the parameter that holds one of these; of a bucket's name, `name` is KIND-bucket."""
    return f"/zmanim/{environment}/{name}"


def read(clients: aws.Clients, name: str) -> str | None:
    """Return a parameter's value, None where there is none. Raises botocore's errors."""
    answer = aws.unless_refused(lambda: clients.ssm.get_parameter(Name=name), "ParameterNotFound")
    return answer["Parameter"].get("Value") if answer else None


def bucket(clients: aws.Clients, environment: str, kind: str) -> str:
    """Return the name of an environment's bucket in the region of `clients`. Raises `bucket-unknown`, aws's errors."""
    name = parameter(environment, f"{kind}-bucket")
    with aws.translate_errors(f"asking which bucket has the {kind} of {environment}"):
        value = read(clients, name)
    if not value:
        raise Error(
            f"{environment} has no bucket for {kind} in {clients.region}",
            code="bucket-unknown",
            expected=f"its name in the parameter {name}",
            found="no such parameter",
            fix=f"./inv account.apply --environment {environment}",
        )
    return value


def regional_suffix(account: str, region: str) -> str:
    """Return the end of every name in an account's regional namespace (S3's user guide, "Namespaces for …")."""
    return f"-{account}-{region}-an"


def pattern(form: str) -> str:
    """Return what fits the names of all environments' buckets, as IAM writes patterns; `form` is the setting."""
    return f"{form.replace('{environment}', '*').rstrip('*')}*"


def choose(clients: aws.Clients, settings: Settings, environment: str, account: str, kind: str) -> Bucket:
    """Return the bucket of a kind that an environment has, or is to get.

    What the parameter names stays in use. Without one that is the bucket of the plain name, where this account has it
    in this region (it was made before there were regional namespaces), and else a name that nobody else can have.
    Raises `bucket-name-too-long`, botocore's errors.
    """
    form = str(getattr(settings, f"{kind}_bucket"))
    plain = form.replace("{environment}", environment)
    regional = plain + regional_suffix(account, clients.region)
    if used := read(clients, parameter(environment, f"{kind}-bucket")):
        other = "" if used in {plain, regional} else f" (the setting {kind}_bucket would name a new one {plain}…)"
        return Bucket(kind, used, f"in use, as its parameter says{other}")
    if _is_ours(clients, plain):
        return Bucket(kind, plain, "kept under its old name, which is one for the whole world")
    if len(regional) > LONGEST:
        raise BadInput(
            f"no bucket can be called {regional}",
            code="bucket-name-too-long",
            expected=f"at most {LONGEST} characters",
            found=f"{len(regional)}",
            fix=f"a shorter environment, or a shorter setting {kind}_bucket",
        )
    return Bucket(kind, regional, "in this account's own regional namespace")


def _is_ours(clients: aws.Clients, name: str) -> bool:
    """Whether this account has a bucket of that name in this region; HeadBucket can't tell it from somebody else's."""
    pages = clients.s3.get_paginator("list_buckets").paginate(Prefix=name, BucketRegion=clients.region)
    return name in {each.get("Name") for page in pages for each in page.get("Buckets", [])}


def plan(clients: aws.Clients, settings: Settings, environment: str, buckets: Sequence[Bucket]) -> Iterator[Change]:
    """Yield the parameters that are missing or differ. Raises botocore's errors."""
    wanted = {f"{each.kind}-bucket": each.name for each in buckets}
    for each in buckets:
        say(f"{each.kind} of {environment} in {clients.region}: bucket {each.name}, {each.why}")
    for short, value in {**wanted, "mail-from": settings.mail_from, "mail-to": settings.mail_to}.items():
        name = parameter(environment, short)
        existing = read(clients, name)
        if existing != value:
            action, reason = ("create", "there is none") if existing is None else ("update", f"it says {existing}")
            yield Change(action, f"parameter {name}", f"{reason}; {value}", _put(clients, name, value))


def plan_marker(clients: aws.Clients, environment: str, bucket: str) -> Iterator[Change]:
    """Yield the marker of a repository that was begun before there were markers, deleted or not.

    An instance writes it when it begins one, and begins none where it is (zmanim_host/aws/marker.py).
    Raises botocore's errors.
    """
    name = parameter(environment, MARKER)
    if read(clients, name) is None:
        seen = clients.s3.list_object_versions(Bucket=bucket, Prefix=REPOSITORY, MaxKeys=1)
        if seen.get("Versions") or seen.get("DeleteMarkers"):
            reason = f"{bucket} has had backups, and an image that finds none there must not begin anew"
            yield Change("mark", f"parameter {name}", reason, _put(clients, name, f"{bucket}, before account.apply"))


def _put(clients: aws.Clients, name: str, value: str) -> Callable[[], object]:
    description = "zmanim: what machines and tasks are told, written by account.apply"
    return partial(
        clients.ssm.put_parameter, Name=name, Value=value, Type="String", Description=description, Overwrite=True
    )
