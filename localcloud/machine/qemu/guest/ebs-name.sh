#!/bin/sh
# Print the device name that the attachment of a volume asked for, without /dev/; udev calls it for each NVMe disk.
#
# Input: the volume's serial (vol0123…); /run/localcloud/volumes (what the agent was told, the newer word) with lines
# SERIAL=NAME, and the kernel's command line with words localcloud.volume=SERIAL=NAME.
# Output: the name, or exit code 1 when nobody named it. Idempotent: yes.
set -o errexit -o nounset

words() {
  cat /run/localcloud/volumes /proc/cmdline 2>/dev/null | tr ' ' '\n'
}

main() {
  name=$(words | sed -n "s/^localcloud\.volume=//; s/^${1}=//p" | head -n 1)
  test -n "${name}"
  echo "${name}"
}

main "$@"
