#!/usr/bin/env bash
# Asserts that cleanup.sh did what it says, and that everything that ships can run and has the version it should have.
#
# It names every failure before it ends. It reads what the image keeps (versions.json in /usr/share), not what was
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

# each_wrong WORDS fails for every line that it reads.
each_wrong() {
  local line
  while read -r line; do
    wrong "${line}$1"
  done
}

check_clean() {
  [[ -f /etc/machine-id && ! -s /etc/machine-id ]] || wrong "/etc/machine-id is not an empty file"
  each_wrong " still runs, and would write to the image" < <(last_writers)
  each_wrong " is still there" < <(leftovers)
  each_wrong " is not empty" < <(find /root /home /var/log -type f \( -path '/var/log/*' -o -path '*/.ssh/authorized_keys' \) -size +0)
  [[ $(passwd --status root) =~ ^root\ L ]] || wrong "root's password is not locked"
}

# runs COMMAND... fails when the command can't be run or does not exit with 0.
runs() {
  "$@" >/dev/null 2>&1 </dev/null || wrong "$* ends with exit code $?"
}

check_programs() {
  local program
  for program in postgres initdb psql pg_dump pg_dumpall pg_restore redis-server redis-cli aws jq blkid chronyd; do
    runs "${program}" --version
  done
  runs openssl version
  runs xfs_growfs -V
  runs mkfs.xfs -V
  runs ssh -V
  # Neither has an option that does nothing: that they can be loaded is what can be asked.
  runs ldd "$(command -v redis-check-rdb)"
  runs ldd "$(command -v redis-check-aof)"
  expect "postgres --version" "$(postgres --version | cut -d . -f 1)" "postgres (PostgreSQL) $(postgresql_major)"
  expect pg_dump "$(pg_dump --version | cut -d ' ' -f 3)" "$(postgres --version | cut -d ' ' -f 3)"
  expect redis-server "$(redis_version)" "$(pinned artifacts redis version)"
  if [[ ${POSTGRESQL_REPO} == amazonlinux ]]; then
    expect pgvector "$(rpm --query --queryformat '%{VERSION}' pgvector)" "$(pinned artifacts pgvector version)"
    expect pg_cron "$(rpm --query --queryformat '%{VERSION}' pg_cron)" "$(pinned artifacts pg_cron version)"
  fi
  expect restic "$(restic version | cut -d ' ' -f 2)" "$(pinned artifacts restic version)"
  expect zmanim-host "$(/opt/zmanim/zmanim-host 2>&1 | head -n 1)" "usage: zmanim-host COMMAND"
}

# It has no option that only prints something: without a database it must end by itself, with its own exit code 1.
check_api() {
  local code=0
  local -r api=/opt/zmanim/zmanim-api
  # e_machine, at byte 18 of an ELF file.
  local -r -A machines=([aarch64]=183 [x86_64]=62)
  env --ignore-environment PATH="${PATH}" timeout 120 runuser --user zmanim -- "${api}" >/dev/null 2>&1 </dev/null || code=$?
  expect "the exit code of ${api} without an environment" "${code}" 1
  expect "the machine of ${api}" "$(od --address-radix=n --skip-bytes=18 --read-bytes=2 --format=u2 "${api}" | tr -d ' ')" \
    "${machines[$(pinned programs architecture)]}"
  expect "the owner of what runs" "$(find /opt/zmanim -not -user root | head -n 1)" ""
  expect "what others can write" "$(find /opt/zmanim -not -type l -perm /022 | head -n 1)" ""
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
  each_wrong " is still there" < <(find "${agent}" -type f \( -path '*/etc/amazon-cloudwatch-agent.*' -o -path '*/logs/*' \))
  [[ " $(id --name --groups cwagent) " == *" systemd-journal "* ]] || wrong "cwagent may not read the journal"
}

check_units() {
  local unit
  for unit in $(enabled_units); do
    runs systemctl is-enabled "${unit}"
  done
  # Only findings about our own: the distribution's units are not ours to mend.
  expect "what systemd-analyze verify says" "$(
    cd /etc/systemd/system
    systemd-analyze verify zmanim.target data.mount ./*.service ./*.path ./*.timer 2>&1 |
      grep --extended-regexp 'zmanim|data\.mount|postgresql|redis|restic|backup-'
  )" ""
}

main() {
  expect "${SHIPPED_VERSIONS}" "$(sha256sum <"${SHIPPED_VERSIONS}")" "$(sha256sum <"${STAGING}/versions.json")"
  check_clean
  each_wrong "" < <(wrong_packages)
  check_programs
  check_api
  check_sshd
  check_cloudwatch_agent
  check_units
  ((failures == 0)) || die "${failures} things are wrong with the image"
  log "the image is clean and everything in it runs"
}

main "$@"
