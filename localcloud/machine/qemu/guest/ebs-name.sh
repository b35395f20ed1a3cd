#!/bin/sh
# Print the device name that the attachment of a volume asked for, without /dev/; udev calls it for each NVMe disk.
#
# Input: the volume's serial (vol0123…); words SERIAL=NAME, first in /run/localcloud/volumes (what the agent was told, the
# newer word), then in what the firmware says of the chassis (what the machine was started with).
# Output: the name, or exit code 1 when nobody named it. Idempotent: yes.
set -o errexit -o nounset

words() {
  cat /run/localcloud/volumes /sys/class/dmi/id/chassis_version 2>/dev/null | tr ' ' '\n'
}

main() {
  name=$(words | sed -n "s/^${1}=//p" | head -n 1)
  test -n "${name}"
  echo "${name}"
}

main "$@"
