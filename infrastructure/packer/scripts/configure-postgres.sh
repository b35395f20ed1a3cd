#!/usr/bin/env bash
# Completes PostgreSQL, puts its configuration and unit in place, and checks the server and every extension of the schema.
#
# Input:      STAGING, POSTGRESQL_REPO; the packages of install-packages.sh.
# Output:     PostgreSQL with postgis, vector, pg_trgm, unaccent and pg_cron, its programs in /usr/bin whichever route they
#             came by; its configuration and postgresql.service, which configure-systemd.sh enables.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

# PGDG's are in a directory of their own, and its packages link only clients from /usr/bin. With the rest there too,
# nothing that is shipped has to know the route.
link_programs() {
  local program
  for program in "/usr/pgsql-$(postgresql_major)"/bin/*; do
    [[ -e /usr/bin/$(basename "${program}") ]] || ln --symbolic "${program}" /usr/bin/
  done
}

# PGDG marks the release of what it makes. Both sources have packages of the same names, so only that tells.
check_route() {
  local name release
  while read -r name release; do
    if [[ ${POSTGRESQL_REPO} == pgdg && ${release} != *PGDG* || ${POSTGRESQL_REPO} != pgdg && ${release} == *PGDG* ]]; then
      die "${name} is not from ${POSTGRESQL_REPO}: its release is ${release}"
    fi
  done < <(rpm --query --all --queryformat '%{NAME} %{RELEASE}\n' 'postgresql*' 'postgis*' 'pgvector*' 'pg_cron*')
}

check() {
  local extension
  expect "postgres --version" "$(postgres --version | cut -d . -f 1)" "postgres (PostgreSQL) $(postgresql_major)"
  # A throw-away cluster proves more than the files' presence: the libraries load, and the extensions can be created.
  local -r cluster=/var/tmp/zmanim-postgresql-test
  rm --recursive --force "${cluster}"
  install --directory --owner=postgres --group=postgres --mode=0700 "${cluster}"
  runuser --user postgres -- initdb --pgdata="${cluster}" --no-sync --auth=peer --encoding=UTF8 --no-locale >/dev/null
  for extension in postgis vector pg_trgm unaccent pg_cron; do
    echo "CREATE EXTENSION ${extension};"
  done >"${cluster}/extensions.sql"
  # Single-user mode exits 0 whatever happens to a statement: its output is what counts.
  if ! runuser --user postgres -- postgres --single -D "${cluster}" -c shared_preload_libraries=pg_cron \
    -c cron.database_name=postgres postgres <"${cluster}/extensions.sql" >"${cluster}/output" 2>&1 ||
    grep --quiet --extended-regexp '(ERROR|FATAL|PANIC):' "${cluster}/output"; then
    die "PostgreSQL does not start, or an extension can't be created: $(cat "${cluster}/output")"
  fi
  rm --recursive --force "${cluster}"
  # What zmanim-memory.service adds on an instance is empty here.
  install -D --mode=0644 /dev/null /run/zmanim/postgresql.conf
  expect "PostgreSQL's data directory" "$(postgres -C data_directory --config-file=/etc/zmanim/postgresql.conf)" /data/postgres
}

main() {
  if [[ ${POSTGRESQL_REPO} == pgdg ]]; then
    link_programs
  else
    ensure_rpm pgvector
    ensure_rpm pg_cron
  fi
  install_files 'postgresql\.(conf|service)|pg_.*\.conf'
  check_route
  check
  log "$(postgres --version) from ${POSTGRESQL_REPO}"
}

main "$@"
