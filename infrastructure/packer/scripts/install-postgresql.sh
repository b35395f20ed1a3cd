#!/usr/bin/env bash
# Adds pgvector and pg_cron to PostgreSQL 17 and checks that the server and every extension the schema needs are there.
#
# Input:   STAGING; the packages of install-packages.sh.
# Output:  PostgreSQL 17 with postgis, vector, pg_trgm, unaccent and pg_cron, not configured yet.
# Twice:   yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

check() {
  local major extension
  major=$(postgres --version | sed --regexp-extended 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/')
  [[ ${major} == 17 ]] || die "postgres on PATH is not version 17 but: $(postgres --version)"
  # A throw-away cluster proves more than the files' presence: the libraries load, and the extensions can be created.
  local -r trial=/var/tmp/zmanim-postgresql-trial
  rm --recursive --force "${trial}"
  install --directory --owner=postgres --group=postgres --mode=0700 "${trial}"
  runuser --user postgres -- initdb --pgdata="${trial}" --no-sync --auth=peer --encoding=UTF8 --no-locale >/dev/null
  for extension in postgis vector pg_trgm unaccent pg_cron; do
    echo "CREATE EXTENSION ${extension};"
  done >"${trial}/extensions.sql"
  # Single-user mode exits 0 whatever happens to a statement: what it says is what counts.
  runuser --user postgres -- postgres --single -D "${trial}" -c shared_preload_libraries=pg_cron \
    -c cron.database_name=postgres postgres <"${trial}/extensions.sql" >"${trial}/said" 2>&1 || {
    cat "${trial}/said" >&2
    die "PostgreSQL does not start"
  }
  if grep --quiet --extended-regexp '(ERROR|FATAL|PANIC):' "${trial}/said"; then
    cat "${trial}/said" >&2
    die "an extension can't be created"
  fi
  rm --recursive --force "${trial}"
}

main() {
  require_environment STAGING
  ensure_rpm pgvector
  ensure_rpm pg_cron
  check
  log "$(postgres --version), PostGIS $(rpm --query --queryformat '%{VERSION}' postgresql17-postgis)"
}

main "$@"
