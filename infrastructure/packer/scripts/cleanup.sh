#!/usr/bin/env bash
# Removes what belongs to the builder and not to the image. validate.sh asserts each line of it.
#
# Input:      none.
# Output:     an image without identity, keys, histories and logs.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail

remove_identity() {
  # Empty, not removed and not "uninitialized": those two make the next boot a systemd *first boot*, which applies
  # presets to everything the distribution ships.
  : >/etc/machine-id
  rm --force /var/lib/dbus/machine-id /etc/hostname
  rm --force /etc/ssh/ssh_host_*
  rm --force /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
  # Stamps: with one from the bake, a backup would fire at the first boot.
  rm --recursive --force /var/lib/systemd/timers /var/lib/systemd/coredump
  passwd --lock root >/dev/null
}

# Emptied, not removed: Packer edits them once more when it takes its own key out (ssh_clear_authorized_keys).
remove_keys() {
  local file
  for file in /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do
    if [[ -e ${file} ]]; then
      : >"${file}"
    fi
  done
}

# cloud-init has to run as on a machine that it has never seen. Not by `cloud-init clean`: it takes half a second to
# start, and its --machine-id leaves "uninitialized".
remove_cloud_init_state() {
  rm --recursive --force /var/lib/cloud/data /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/sem
  rm --recursive --force /var/lib/dhclient /var/lib/dhcpcd
}

remove_package_cache() {
  rm --recursive --force /var/cache/dnf /var/cache/yum /var/lib/dnf/history.sqlite*
}

remove_histories() {
  rm --force /root/.*_history /home/*/.*_history /root/.lesshst /home/*/.lesshst /root/.viminfo /home/*/.viminfo
  rm --recursive --force /root/.cache /home/*/.cache /root/.aws /home/*/.aws /root/.config /home/*/.config
}

# A writer that holds its file would write on after this.
stop_writers() {
  systemctl stop amazon-ssm-agent.service
  rm --recursive --force /var/lib/amazon/ssm
  # Its unit refuses to be stopped, but not to be killed.
  if systemctl is-active --quiet auditd.service; then
    systemctl kill auditd.service
    timeout 10 bash -c 'while systemctl is-active --quiet auditd.service; do sleep 0.1; done'
  fi
  # From here on the journal is on tmpfs.
  journalctl --relinquish-var
}

remove_logs() {
  rm --recursive --force /var/log/journal/*
  find /var/log -type f -exec truncate --size=0 {} +
  find /var/log -type f \( -name '*.gz' -o -name '*-[0-9]*' -o -name 'cloud-init*' -o -name 'dnf*' \) -delete
}

remove_temporary_files() {
  find /var/tmp /tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' ! -name 'script_*.sh' \
    -exec rm --recursive --force {} +
}

main() {
  remove_identity
  remove_keys
  remove_cloud_init_state
  remove_package_cache
  remove_histories
  stop_writers
  remove_logs
  remove_temporary_files
  sync
}

main "$@"
