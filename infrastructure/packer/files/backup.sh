#!/usr/bin/env bash
# Backs every database, the roles and Redis up to S3 with restic; the run counts once its completion record is there.
#
# restic-backup.service runs it as zmanim-backup. pg_dump is streamed: nothing of the databases touches the disk. What has
# rules (refusals, counting, reading back, the record, retention) is `zmanim-host backup`.
# Input:      ZMANIM_ENVIRONMENT, AWS_REGION, INSTANCE_ID (/run/zmanim/environment); BACKUPS_BUCKET (/run/zmanim/account);
#             BACKUP_PATH (/etc/restic/backup.conf); $CREDENTIALS_DIRECTORY/backup_restic-password and backup_redis-password.
# Output:     snapshots in s3:…/BACKUPS_BUCKET/BACKUP_PATH; exit code 0 only when the run is complete.
# Idempotent: one after the other, each is a run of its own; at the same time the second one refuses.
set -o errexit -o nounset -o pipefail

readonly WORK=/data/backup
HERE=$(dirname "${BASH_SOURCE[0]}")
readonly HERE

log() {
  printf '%s\n' "$*" >&2
}

die() {
  log "ERROR: $*"
  exit 1
}

require_environment() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || die "the environment variable ${name} is missing"
  done
}

# A snapshot of a wrong date takes another one's place. A chronyd that does not answer says nothing about the clock: that
# is no reason to have no backup.
check_clock() {
  local tracking
  if tracking=$(chronyc -n tracking) && [[ ${tracking} == *"Not synchronised"* ]]; then
    die "the clock is not synchronised: nothing was backed up (chronyc tracking; systemctl status chronyd)"
  fi
}

use_secrets() {
  export RESTIC_PASSWORD_FILE="${CREDENTIALS_DIRECTORY}/backup_restic-password"
  [[ -s ${RESTIC_PASSWORD_FILE} ]] ||
    die "the parameter /zmanim/${ZMANIM_ENVIRONMENT}/restic-password is missing: nothing was backed up
Make it (SecureString), keep a copy offline, then: systemctl restart zmanim-secrets && systemctl start restic-backup"
  # By the environment, never by an argument: arguments are everybody's to read.
  REDISCLI_AUTH=$(<"${CREDENTIALS_DIRECTORY}/backup_redis-password")
  export REDISCLI_AUTH
}

# Held until the last process that has it ends, however it ends; restore.sh takes the same one.
take_turn() {
  exec 9<"${WORK}"
  flock --nonblock 9 || step refuse-turn
}

step() {
  "${HERE}/zmanim-host" backup "$@" </dev/null
}

# Each command is run by restic itself, with no shell and no pipe in between: restic sees how it ended and keeps no
# snapshot of half a dump. Uncompressed (0): restic compresses, and finds what did not change since yesterday. --snapshot
# is added: the dump is of the moment in which its database was looked at for the record. Which databases comes on stdin.
back_up_databases() {
  local database
  while read -r database; do
    step database "${database}" -- \
      pg_dump --format=custom --compress=0 --no-password --lock-wait-timeout=10min --dbname="${database}"
  done
}

# pg_dump has no roles. Theirs have no passwords, so there is none to leave out.
back_up_globals() {
  step globals -- pg_dumpall --globals-only --no-role-passwords --no-password --database=postgres
}

# Through a file, not a pipe: a slow upload would hold Redis's saving child, and a stream keeps a 40-byte mark at its
# end that Redis refuses when the file is to serve as the base of an append-only file.
back_up_redis() {
  local -r file="${WORK}/redis.rdb"
  redis-cli -s /run/redis/redis.sock --user backup --no-auth-warning --rdb "${file}"
  step redis "${file}"
  rm "${file}"
}

main() {
  local databases
  require_environment ZMANIM_ENVIRONMENT AWS_REGION INSTANCE_ID BACKUP_PATH CREDENTIALS_DIRECTORY
  export PGHOST=/run/postgresql PGUSER=zmanim_backup
  # Whatever ends this one early: no proof follows it.
  rm --force "${WORK}/complete"
  check_clock
  use_secrets
  take_turn
  databases=$(step begin)
  back_up_databases <<<"${databases}"
  back_up_globals
  back_up_redis
  step complete
}

main "$@"
