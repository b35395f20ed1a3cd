"""The cloud and the image of tests/machines, for the long campaign of faults."""

from __future__ import annotations

from tests.machines import conftest as machines
from tests.support.machines import backup_host as backup_hosts

images = machines.images
workspace, authority, base_root = machines.workspace, machines.authority, machines.base_root
cloud_settings = machines.cloud_settings
backup_host, good = backup_hosts.backup_host, backup_hosts.good
