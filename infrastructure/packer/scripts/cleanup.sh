#!/usr/bin/env bash
# Removes what belongs to the builder and not to the image. validate.sh asserts that it is gone.
#
# Input:      STAGING.
# Output:     an image without identity, keys, histories and logs.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A writer that holds its file would write on after this, and a service may do it once more when the builder stops.
stop_writers() {
  local -a writers
  mapfile -t writers < <(last_writers)
  systemctl stop amazon-ssm-agent.service "${writers[@]}"
  # Its unit refuses to be stopped, but not to be killed.
  if systemctl is-active --quiet auditd.service; then
    systemctl kill auditd.service
    timeout 10 bash -c 'while systemctl is-active --quiet auditd.service; do sleep 0.1; done'
  fi
  # From here on the journal is on tmpfs.
  journalctl --relinquish-var
}

main() {
  stop_writers
  # Without cloud-init's state it runs as on a machine that it has never seen. Not by `cloud-init clean`: that takes half a
  # second to start, and its --machine-id leaves "uninitialized". Without timers' stamps no backup fires at the first boot.
  leftovers | xargs --no-run-if-empty --delimiter='\n' rm --recursive --force
  # Empty, not removed and not "uninitialized": those two make the next boot a systemd *first boot*, which applies
  # presets to everything the distribution ships.
  : >/etc/machine-id
  # Emptied, not removed: Packer edits them once more when it takes its own key out (ssh_clear_authorized_keys).
  find /root /home -path '*/.ssh/authorized_keys' -exec truncate --size=0 {} +
  find /var/log -type f -exec truncate --size=0 {} +
  passwd --lock root >/dev/null
  sync
}

main "$@"
