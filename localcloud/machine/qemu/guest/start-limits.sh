#!/bin/sh
# A generator of systemd's: where the processor is emulated, no service has a limit for its start.
#
# Input:      the directory for what it generates as $1; the word localcloud.emulated in what the firmware says of the
#             chassis.
# Output:     service.d/localcloud-emulated.conf there, below /run: gone with the boot, so no image keeps it. Without the
#             word: nothing.
# Idempotent: yes.
#
# Limits are made for real processors: a start that takes 4 s there takes a minute here, and a limit of a minute would
# say that something hangs. What really hangs is seen by whoever waits for the machine.
set -o errexit -o nounset

main() {
  case " $(cat "${LOCALCLOUD_CHASSIS:-/sys/class/dmi/id/chassis_version}" 2>/dev/null) " in
    *" localcloud.emulated "*) ;;
    *) exit 0 ;;
  esac
  mkdir -p "${1}/service.d"
  printf '[Service]\nTimeoutStartSec=infinity\n' >"${1}/service.d/localcloud-emulated.conf"
}

main "$@"
