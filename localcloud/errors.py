"""Every foreseeable failure of the local cloud, one class per cause."""

from __future__ import annotations

from support.errors import BadInput, Fault, HostLacks


class NotRoot(HostLacks):
    """Machines, mounts and namespaces need root."""


class ProgramsMissing(HostLacks):
    """Programs that the cloud is made of are not on this host."""


class HostUnfit(HostLacks):
    """The host's kernel or file system can't carry a cloud."""


class DiskTooSmall(HostLacks):
    """There is not enough room for the state of a cloud."""


class BadSettings(BadInput):
    """A name, region or image that can't be meant."""


class NoSubnetFree(HostLacks):
    """Every subnet that clouds may use is taken on this host."""


class CloudFailed(Fault):
    """The cloud's server ended before it was ready, or never was."""


class CleanUpFailed(Fault):
    """Something of a cloud is still on the host after `down`."""


class UnknownMachine(BadInput):
    """No machine of that id is running in the cloud."""


class MachineFailed(Fault):
    """A machine could not be started, stopped or reached."""


class VolumeFailed(Fault):
    """A volume could not be made, attached or detached."""


class LayerFailed(Fault):
    """An image layer could not be mounted or kept."""
