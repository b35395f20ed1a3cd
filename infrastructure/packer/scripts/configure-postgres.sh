#!/usr/bin/env bash
# Completes PostgreSQL and checks that the server and every extension the schema needs are there.
#
# Input:      STAGING, POSTGRESQL_REPO; the packages of install-packages.sh.
# Output:     PostgreSQL with postgis, vector, pg_trgm, unaccent and pg_cron, not configured yet; its programs in /usr/bin
#             whichever route they came by.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

# PGDG's are in a directory of their own, and its packages link only clients from /usr/bin. With the rest there too,
# nothing that is shipped has to know the route.
link_programs() {
  local program major
  major=$(postgresql_major)
  for program in "/usr/pgsql-${major}"/bin/*; do
    [[ -e /usr/bin/$(basename "${program}") ]] || ln --symbolic "${program}" /usr/bin/
  done
}

# PGDG marks the release of what it makes. Both sources have packages of the same names, so only that tells.
check_route() {
  local name release
  while read -r name release; do
    if [[ ${POSTGRESQL_REPO} == pgdg && ${release} != *PGDG* || ${POSTGRESQL_REPO} != pgdg && ${release} == *PGDG* ]]; then
      die "${name} is not from where POSTGRESQL_REPO says
  expected: ${POSTGRESQL_REPO}
  found:    release ${release}"
    fi
  done < <(rpm --query --all --queryformat '%{NAME} %{RELEASE}\n' 'postgresql*' 'postgis*' 'pgvector*' 'pg_cron*')
}

check() {
  local major version extension
  major=$(postgresql_major)
  version=$(postgres --version)
  [[ ${version} == "postgres (PostgreSQL) ${major}."* ]] || die "postgres on PATH is not version ${major} but: ${version}"
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
  case ${POSTGRESQL_REPO} in
    amazonlinux)
      ensure_rpm pgvector
      ensure_rpm pg_cron
      ;;
    pgdg) link_programs ;;
    *) die "POSTGRESQL_REPO is amazonlinux or pgdg, not ${POSTGRESQL_REPO}" ;;
  esac
  check_route
  check
  log "$(postgres --version) from ${POSTGRESQL_REPO}"
}

main "$@"
