#!/usr/bin/env bash
# Backs PostgreSQL and Redis up to S3 with restic: three snapshots, tagged postgresql, globals and redis.
#
# restic-backup.service runs it as zmanim-backup. pg_dump is streamed: nothing of the database touches the disk.
# Input:   ZMANIM_ENVIRONMENT, AWS_REGION (/run/zmanim/environment); BACKUP_BUCKET_PREFIX, BACKUP_PATH
#          (/etc/restic/backup.conf); $CREDENTIALS_DIRECTORY/backup_restic-password and backup_redis-password.
# Output:  snapshots in s3:…/BACKUP_BUCKET_PREFIX-ENVIRONMENT/BACKUP_PATH; exit code 0 only when all three are whole.
# Twice:   yes; each run is a set of snapshots of its own.
set -o errexit -o nounset -o pipefail

readonly WORK=/data/backup
# A fixed name: the machine's own changes with every image, and snapshots of other names would never expire.
readonly HOST=zmanim

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

# A snapshot dated in the future is never thinned out and hides all that follow. A chronyd that does not answer says
# nothing about the clock: that is no reason to have no backup.
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

# Only exit code 10 says that there is no repository. Anything else (S3 away, access denied, a wrong password) must never
# lead to a new one.
open_repository() {
  local code=0
  restic cat config >/dev/null || code=$?
  case ${code} in
    0) ;;
    10)
      log "no repository at ${RESTIC_REPOSITORY} yet: making it"
      restic init
      ;;
    12) die "the parameter /zmanim/${ZMANIM_ENVIRONMENT}/restic-password is not the repository's password" ;;
    *) die "the repository ${RESTIC_REPOSITORY} can't be opened (restic exit code ${code})" ;;
  esac
  # Locks of runs that were killed. Never --remove-all: a lock that is held belongs to somebody.
  restic unlock
}

# A pg_dump of another major version may leave things out without a word.
check_versions() {
  local client server
  client=$(pg_dump --version | sed --regexp-extended 's/^pg_dump \(PostgreSQL\) ([0-9]+).*/\1/')
  server=$(psql --no-psqlrc --no-align --tuples-only --command 'SHOW server_version_num')
  ((client == server / 10000)) || die "pg_dump has major version ${client}, the server has $((server / 10000))"
}

# No shell and no pipe between pg_dump and restic: restic sees how it ended and keeps no snapshot of half a dump.
# Uncompressed (-Z0): restic compresses, and finds what did not change since yesterday.
back_up_postgresql() {
  restic backup --host "${HOST}" --tag postgresql --stdin-filename zmanim.pgdump --stdin-from-command -- \
    pg_dump --format=custom --compress=0 --no-password --dbname=zmanim
  # pg_dump has no roles. Theirs have no passwords, so there is none to leave out.
  restic backup --host "${HOST}" --tag globals --stdin-filename globals.sql --stdin-from-command -- \
    pg_dumpall --globals-only --no-role-passwords --no-password --database=postgres
}

# Through a file, not a pipe: a slow upload would hold Redis's saving child, and a stream keeps a 40-byte mark at its
# end that Redis refuses when the file is to serve as the base of an append-only file.
back_up_redis() {
  local -r file="${WORK}/redis.rdb"
  redis-cli -s /run/redis/redis.sock --user backup --no-auth-warning --rdb "${file}"
  redis-check-rdb "${file}" >/dev/null
  restic backup --host "${HOST}" --tag redis "${file}"
  rm "${file}"
}

main() {
  require_environment ZMANIM_ENVIRONMENT AWS_REGION BACKUP_BUCKET_PREFIX BACKUP_PATH CREDENTIALS_DIRECTORY
  export PGHOST=/run/postgresql PGUSER=zmanim_backup PGDATABASE=zmanim
  export RESTIC_REPOSITORY="s3:https://s3.${AWS_REGION}.amazonaws.com/${BACKUP_BUCKET_PREFIX}-${ZMANIM_ENVIRONMENT}/${BACKUP_PATH}"
  check_clock
  use_secrets
  check_versions
  open_repository
  back_up_postgresql
  back_up_redis
  log "backed up to ${RESTIC_REPOSITORY}"
}

main "$@"
