"""What rows are played on: the whole cloud in this process, with machines that are only records, and things in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import jmespath  # type: ignore[import-untyped]
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import base64_encode_user_data
from moto.iam import models as iam_models
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import create_backend_app

from localcloud.api import application, patches
from localcloud.application import Emulation, emulate
from localcloud.settings import Cloud
from support.waiting import wait_for
from tests.contract.rows import Answer, Refused, Row, Step, matches
from tests.contract.things import BASE, THINGS
from tests.support.localcloud.iam import KEY, REGION, IamLab
from tests.support.localcloud.records import record_fleet

# AWS's own refusals, not boto3's; and each is asked for once.
CONFIG = Config(parameter_validation=False, retries={"total_max_attempts": 1})
POLICIES_OF_AWS = ("AmazonSSMManagedInstanceCore",)
_NAME = re.compile(r"\$(\$|\w+)")
_READS = re.compile(r"(Describe|Get|List|Head|Search)")
# What happens to a machine happens in threads.
_SECONDS = 5.0


# A service's routes, which hold nothing: to make them anew for each row would take a tenth of the time.
_backend_app = cache(create_backend_app)
# Clients outlive a stage: to make one takes longer than most rows.
_current: list[Any] = []


def _api(environ: Any, start_response: Any) -> Any:
    return _current[-1](environ, start_response)


@cache
def _client(service: str, region: str, credentials: tuple[tuple[str, str], ...]) -> Any:
    lab = IamLab(cast(Any, _api), Path(), whole=True)
    client = lab.client(service, dict(credentials) or None, region, CONFIG)
    if service == "ec2":  # user data as a row has it, which need not be base64
        client.meta.events.unregister("before-parameter-build.ec2.RunInstances", base64_encode_user_data)
    return client


@cache
def _policies_of_aws() -> str:
    """Return those of AWS's managed policies that rows name, as moto has them: all of them take a second."""
    data = json.loads(aws_managed_policies_data)
    return json.dumps({name: data[name] for name in POLICIES_OF_AWS})


class Stage:
    """An account, in which things are made when a row first names them.

    A row that fails raises AssertionError, with what was answered.
    """

    def __init__(self, lab: IamLab, emulation: Emulation) -> None:
        self.lab = lab
        self.emulation = emulation
        self._things: dict[str, str] = {"$": "$", "region": REGION, "key_of_owner": KEY}
        self._contents: dict[str, bytes] = {}
        self._credentials: dict[str, Mapping[str, str]] = {}

    def play(self, row: Row) -> None:
        """Ask what a row asks, and compare."""
        for step in row.before:
            self.done(step)
        self._ask(row.call)
        for step in row.then:
            self._ask(step, patiently=True)

    def done(self, step: Step) -> dict[str, Any]:
        """Make a call that has to succeed; return its answer when it is as the step expects it, within seconds."""
        return self._ask(step, patiently=bool(step.expected))

    def thing(self, name: str) -> str:
        """Return the id of a thing; it is made when it is not there yet."""
        if name not in self._things:
            self._things[name] = THINGS[name](self)
        return self._things[name]

    def keep(self, **things: str) -> None:
        """Give names to things that a row or another thing has made."""
        self._things |= things

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a call that a thing is made by."""
        return self.done(Step(operation, request))

    def wait(self, operation: str, request: Mapping[str, Any], expected: Answer) -> dict[str, Any]:
        """Make a call until its answer is as expected, for seconds at most."""
        return self.done(Step(operation, request, expected))

    def _ask(self, step: Step, *, patiently: bool = False) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        complaint = ""

        def asked() -> bool:
            nonlocal complaint
            complaint = self._compare(step, answers)
            return not complaint

        patient = patiently and _READS.match(step.name)
        fine = wait_for(asked, _SECONDS, 0.02) if patient else asked()
        assert fine, f"{step.operation} {str(self._filled(step.request))[:300]}: {complaint}"
        answer = answers[-1]
        for name, path in step.keep.items():
            found = jmespath.search(path, answer)
            if isinstance(found, bytes):
                self._contents[name] = found
            else:
                self.keep(**{name: str(found)})
        return answer

    def _compare(self, step: Step, answers: list[dict[str, Any]]) -> str:
        """Make a call, append its answer, and return what is wrong with that."""
        try:
            answers.append(self._made(step))
        except ClientError as error:
            answers.append(dict(error.response))
            code, message = (str(error.response.get("Error", {}).get(each, "")) for each in ("Code", "Message"))
            expected = step.expected
            if (
                isinstance(expected, Refused)
                and re.fullmatch(expected.code, code)
                and re.search(expected.message, message)
            ):
                return ""
            wanted = f"{expected.code} {expected.message}" if isinstance(expected, Refused) else "an answer"
            return f"refused with {code}: {message}, instead of {wanted}"
        if isinstance(step.expected, Refused):
            return f"carried out, instead of refused with {step.expected.code}"
        return self._differing(step.expected, answers[-1])

    def _differing(self, expected: Answer, answer: Mapping[str, Any]) -> str:
        for path, value in expected.items():
            found, wanted = jmespath.search(path, answer), self._filled(value)
            if not matches(found, wanted):
                return f"{path} is {found!r}, instead of {wanted!r} in {dict(answer)}"[:600]
        return ""

    def _made(self, step: Step) -> dict[str, Any]:
        caller = self._filled(step.caller)
        credentials = tuple(self._credentials[caller].items()) if caller else ()
        client = _client(step.service, step.region or REGION, credentials)
        answer: dict[str, Any] = getattr(client, xform_name(step.name))(**self._filled(step.request))
        for name, value in answer.items():
            if hasattr(value, "read"):
                answer[name] = value.read()
        return answer

    def know(self, name: str, credentials: Mapping[str, str]) -> str:
        """Give a name to credentials; return it, for a row's `caller`."""
        self._credentials[name] = credentials
        return name

    def _filled(self, value: Any) -> Any:
        """Put things in the place of their names."""
        if isinstance(value, str):
            if (content := self._contents.get(value.removeprefix("$"))) is not None:
                return content
            return _NAME.sub(lambda match: self.thing(match[1]), value)
        if isinstance(value, Mapping):
            return {name: self._filled(each) for name, each in value.items() if each is not None}
        if isinstance(value, list | tuple):
            return [self._filled(each) for each in value]
        return value


@contextmanager
def opened(directory: Path) -> Iterator[Stage]:
    """A stage with an empty account; moto is as it was when this ends."""
    cloud = Cloud("contract", REGION, directory, 7, KEY)
    with record_fleet(cloud) as fleet, pytest.MonkeyPatch.context() as monkey:
        for change in patches.REGISTRY:
            monkey.setattr(change.owner, change.name, getattr(change.owner, change.name, None), raising=False)
        monkey.setenv("MOTO_ENABLE_AMI_VALIDATION", "true")
        monkey.setenv("MOTO_ENABLE_KEYPAIR_VALIDATION", "true")
        monkey.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        monkey.setattr(iam_models, "aws_managed_policies_data", _policies_of_aws())
        monkey.setattr(application, "create_backend_app", _backend_app)
        emulation = emulate((BASE,), cloud, fleet)
        moto_api_backend.reset()
        _current[:] = [emulation.api]
        yield Stage(IamLab(emulation.api, directory, whole=True), emulation)
        moto_api_backend.reset()
