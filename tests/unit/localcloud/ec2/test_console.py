"""GetConsoleOutput as EC2 gives it."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.api.patches import ApiError
from localcloud.ec2.instances import Instances
from localcloud.faults.injection import Faults


def console(directory: Path, output: bytes, *, instance_type: str = "m7g.medium", latest: bool = True) -> bytes:
    fleet: Any = SimpleNamespace(known=lambda _id: True, console=lambda _id: output)
    instance = SimpleNamespace(id="i-1", instance_type=instance_type)
    given = {"InstanceId": "i-1", "Latest": latest}
    response = SimpleNamespace(ec2_backend=SimpleNamespace(get_instance=lambda _id: instance), _get_param=None)
    response._get_param = lambda name, default=None: given.get(name, default)
    result: Any = Instances(fleet, Faults(directory)).get_console_output(response).result
    return base64.b64decode(result["Output"])


def test_the_newest_64_kib_are_kept(tmp_path: Path) -> None:
    text = b"".join(b"%07d\n" % number for number in range(10_000))
    assert console(tmp_path, text) == text[-65536:]
    assert console(tmp_path, b"short") == b"short"


def test_the_latest_output_is_there_on_nitro_only(tmp_path: Path) -> None:
    with pytest.raises(ApiError) as refused:
        console(tmp_path, b"text", instance_type="t2.micro")
    assert refused.value.code == "UnsupportedOperation"
    assert console(tmp_path, b"text", instance_type="t2.micro", latest=False) == b"text"
    assert console(tmp_path, b"text", instance_type="t4g.small") == b"text"
