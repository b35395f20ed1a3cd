"""Operations that moto answers with a success behind which nothing happens: here they are not supported, and say so."""

from __future__ import annotations

from typing import Any

from moto.ec2instanceconnect.responses import Ec2InstanceConnectResponse

from localcloud.api.patches import patch


@patch(Ec2InstanceConnectResponse.send_ssh_public_key)
def send_ssh_public_key(_response: Any) -> str:
    """SendSSHPublicKey: no machine here would take the key. Raises NotImplementedError (UnsupportedOperation)."""
    raise NotImplementedError("machines take keys at their launch; a shell of one is opened by cloud.shell")
