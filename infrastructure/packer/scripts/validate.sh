#!/usr/bin/env bash
# Asserts that cleanup.sh did what it says, and that everything that ships can run and has the version it should have.
#
# Every failure is told before it ends. It reads what the image keeps (versions.json in /usr/share), not what was
# uploaded.
# Input:      STAGING, POSTGRESQL_REPO.
# Output:     exit code 1 when anything is wrong.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failures=0

wrong() {
  log "WRONG: $*"
  failures=$((failures + 1))
}

# absent PATTERN... fails for every file that is there.
absent() {
  local path
  for path in "$@"; do
    if [[ -e ${path} || -L ${path} ]]; then
      wrong "${path} is still there"
    fi
  done
}

check_clean() {
  shopt -s nullglob dotglob
  [[ -f /etc/machine-id && ! -s /etc/machine-id ]] || wrong "/etc/machine-id is not an empty file"
  absent /var/lib/dbus/machine-id /etc/hostname /etc/ssh/ssh_host_*
  absent /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/systemd/timers /var/lib/systemd/coredump
  absent /var/lib/cloud/data /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/sem
  absent /var/lib/dhclient /var/lib/dhcpcd /var/lib/amazon/ssm /var/cache/dnf /var/cache/yum /var/lib/dnf/history.sqlite*
  absent /root/.*_history /home/*/.*_history /root/.aws /home/*/.aws /var/log/journal/* /var/log/cloud-init*
  local file
  for file in /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do
    [[ ! -s ${file} ]] || wrong "${file} holds keys"
  done
  while read -r file; do
    wrong "${file} is not empty"
  done < <(find /var/log -type f -size +0)
  while read -r file; do
    wrong "${file} is still there"
  done < <(find /var/tmp /tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' ! -name 'script_*.sh')
  [[ $(passwd --status root) =~ ^root\ L ]] || wrong "root's password is not locked"
  shopt -u nullglob dotglob
}

# runs COMMAND... fails when the command can't be run or does not exit with 0.
runs() {
  "$@" >/dev/null 2>&1 </dev/null || wrong "$* ends with exit code $?"
}

# is WHAT FOUND EXPECTED
is() {
  [[ $2 == "$3" ]] || wrong "$1 is $2, and should be $3"
}

check_packages() {
  local name minimum repository found
  while read -r name minimum repository; do
    found=$(rpm --query --queryformat '%{VERSION}' "${name}") || {
      wrong "${name} is not installed"
      continue
    }
    at_least "${found}" "${minimum}" || wrong "${name} (${repository}) is ${found}, and should be ${minimum} or newer"
  done < <(package_list)
}

check_programs() {
  local program version major
  for program in postgres initdb psql pg_dump pg_dumpall pg_restore redis-server redis-cli aws jq; do
    runs "${program}" --version
  done
  runs openssl version
  runs xfs_growfs -V
  runs mkfs.xfs -V
  runs blkid --version
  runs chronyd --version
  runs ssh -V
  # Neither has an option that does nothing: that they can be loaded is what can be asked.
  runs ldd "$(command -v redis-check-rdb)"
  runs ldd "$(command -v redis-check-aof)"
  major=$(postgresql_major)
  version=$(postgres --version)
  [[ ${version} == "postgres (PostgreSQL) ${major}."* ]] || wrong "postgres --version says ${version}"
  is pg_dump "$(pg_dump --version | cut -d ' ' -f 3)" "$(cut -d ' ' -f 3 <<<"${version}")"
  is redis-server "$(redis-server --version | sed --regexp-extended 's/.* v=([0-9.]+) .*/\1/')" "$(pinned artifacts redis version)"
  if [[ ${POSTGRESQL_REPO} == amazonlinux ]]; then
    is pgvector "$(rpm --query --queryformat '%{VERSION}' pgvector)" "$(pinned artifacts pgvector version)"
    is pg_cron "$(rpm --query --queryformat '%{VERSION}' pg_cron)" "$(pinned artifacts pg_cron version)"
  fi
  is restic "$(restic version | cut -d ' ' -f 2)" "$(pinned artifacts restic version)"
  is zmanim-host "$(/opt/zmanim/zmanim-host 2>&1 | head -n 1)" "usage: zmanim-host COMMAND"
}

# It has no option that only prints something: without a database it must end by itself, with its own exit code 1.
check_api() {
  local code=0
  local -r api=/opt/zmanim/zmanim-api
  env --ignore-environment PATH="${PATH}" timeout 20 runuser --user zmanim -- "${api}" >/dev/null 2>&1 </dev/null || code=$?
  is "the exit code of ${api} without an environment" "${code}" 1
  # e_machine, at byte 18 of an ELF file: 183 is AArch64.
  is "the machine of ${api}" "$(od --address-radix=n --skip-bytes=18 --read-bytes=2 --format=u2 "${api}" | tr -d ' ')" 183
  is "the owner of what runs" "$(find /opt/zmanim -not -user root | head -n 1)" ""
  is "what others can write" "$(find /opt/zmanim -not -type l -perm /022 | head -n 1)" ""
}

# Every line of ours, as sshd itself sums its files up. It does not say a word without a host key, and the image has none.
check_sshd() {
  local -r key="${STAGING}/host-key"
  local effective name value
  rm --force "${key}" "${key}.pub"
  ssh-keygen -q -t ed25519 -N "" -f "${key}"
  effective=$(/usr/sbin/sshd -T -h "${key}" -C user=root,host=elsewhere,addr=192.0.2.1) || wrong "sshd -T ends with exit code $?"
  while read -r name value; do
    [[ -z ${name} || ${name} == "#"* ]] || grep --quiet --line-regexp --fixed-strings "${name,,} ${value}" <<<"${effective}" ||
      wrong "sshd's effective ${name} is $(grep "^${name,,} " <<<"${effective}"), and should be ${value}"
  done </etc/ssh/sshd_config.d/00-zmanim.conf
}

check_cloudwatch_agent() {
  local -r agent=/opt/aws/amazon-cloudwatch-agent
  absent "${agent}"/etc/amazon-cloudwatch-agent.{json,toml,yaml} "${agent}"/etc/amazon-cloudwatch-agent.d/* "${agent}"/logs/*
  [[ " $(id --name --groups cwagent) " == *" systemd-journal "* ]] || wrong "cwagent may not read the journal"
}

check_units() {
  local verb unit
  while read -r verb unit; do
    if [[ ${verb} == enable ]]; then
      runs systemctl is-enabled "${unit}"
    fi
  done </usr/lib/systemd/system-preset/00-zmanim.preset
  # Only what is said of our own: the distribution's units are not ours to mend.
  is "what systemd-analyze verify says" "$(
    cd /etc/systemd/system
    systemd-analyze verify zmanim.target data.mount ./*.service ./*.path ./*.timer 2>&1 |
      grep --extended-regexp 'zmanim|data\.mount|postgresql|redis|restic|backup-'
  )" ""
}

main() {
  require_environment STAGING
  is "${SHIPPED_VERSIONS}" "$(sha256sum <"${SHIPPED_VERSIONS}")" "$(sha256sum <"${STAGING}/versions.json")"
  check_clean
  check_packages
  check_programs
  check_api
  check_sshd
  check_cloudwatch_agent
  check_units
  ((failures == 0)) || die "${failures} things are wrong with the image"
  log "the image is clean and everything in it runs"
}

main "$@"
