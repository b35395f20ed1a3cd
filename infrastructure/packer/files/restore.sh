#!/usr/bin/env bash
# Restores a backup: --list | --latest | --run ID [--into-scratch DIR | --replace --yes], or --adopt; --help says more.
#
# Without --replace it touches nothing that is live: a second PostgreSQL and Redis in a directory, on sockets of their own,
# are filled and compared with the run's completion record. What has rules is `zmanim-host restore`.
# Input:      the words above; /run/zmanim/environment and account, /etc/restic/backup.conf; restic's password from
#             $CREDENTIALS_DIRECTORY/backup_restic-password (a unit) or /run/zmanim/secrets (root).
# Output:     exit code 0 when everything is as the record says; with --json the result on stdout.
# Idempotent: yes, one after the other; beside another one or a backup it refuses, and says who that is.
set -o errexit -o nounset -o pipefail

HERE=$(dirname "${BASH_SOURCE[0]}")
readonly HERE

# shellcheck disable=SC2034 # allexport exports what is set here
main() {
  set -o allexport
  # shellcheck source=/dev/null
  source /run/zmanim/environment
  # shellcheck source=/dev/null
  [[ ! -e /run/zmanim/account ]] || source /run/zmanim/account
  # shellcheck source=infrastructure/packer/files/backup.conf
  source /etc/restic/backup.conf
  RESTIC_PASSWORD_FILE=/run/zmanim/secrets/backup/restic-password
  if [[ -n ${CREDENTIALS_DIRECTORY:-} ]]; then
    RESTIC_PASSWORD_FILE="${CREDENTIALS_DIRECTORY}/backup_restic-password"
  fi
  RESTIC_CACHE_DIR=/var/cache/restic
  exec "${HERE}/zmanim-host" restore "$@"
}

main "$@"
