#!/usr/bin/env bash
# Installs Redis with TLS and systemd notification, from its pinned source.
#
# Input:      STAGING.
# Output:     redis-server, redis-cli, redis-check-rdb, redis-check-aof; not configured yet.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

check() {
  local version found library libraries
  version=$(pinned artifacts redis version)
  found=$(redis-server --version | sed --regexp-extended 's/.* v=([0-9.]+) .*/\1/')
  [[ ${found} == "${version}" ]] || die "redis-server has the wrong version
  expected: ${version}
  found:    ${found}"
  # Not `ldd | grep --quiet`: grep ends at its first match, and ldd then dies of a closed pipe.
  libraries=$(ldd "$(command -v redis-server)")
  for library in libssl libsystemd; do
    [[ ${libraries} == *"${library}.so"* ]] || die "redis-server was compiled without ${library}"
  done
}

main() {
  require_environment STAGING
  ensure_rpm redis
  check
  log "Redis $(pinned artifacts redis version)"
}

main "$@"
