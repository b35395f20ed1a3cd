#!/bin/sh
# Print the device name that the attachment of a volume asked for, without /dev/; udev calls it for each NVMe disk.
#
# Input: the volume's serial (vol0123…); /run/localcloud/volumes (written by the agent, the newer) and the kernel's
# command line, each with words SERIAL=NAME, the latter as localcloud.volume=SERIAL=NAME.
# Output: the name, or exit code 1 when nobody named it. Idempotent: yes.
for word in $(cat /run/localcloud/volumes /proc/cmdline 2>/dev/null); do
  word=${word#localcloud.volume=}
  if [ "${word%%=*}" = "$1" ]; then
    echo "${word#*=}"
    exit 0
  fi
done
exit 1
