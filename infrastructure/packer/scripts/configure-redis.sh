#!/usr/bin/env bash
# Installs Redis with TLS and systemd notification from its pinned source, puts its configuration and unit in place.
#
# Input:      STAGING.
# Output:     redis-server, redis-cli, redis-check-rdb, redis-check-aof; redis.conf and redis.service.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

check() {
  local library libraries
  expect redis-server "$(redis_version)" "$(pinned artifacts redis version)"
  # Not `ldd | grep --quiet`: grep ends at its first match, and ldd then dies of a closed pipe.
  libraries=$(ldd "$(command -v redis-server)")
  for library in libssl libsystemd; do
    [[ ${libraries} == *"${library}.so"* ]] || die "redis-server was compiled without ${library}"
  done
}

main() {
  ensure_rpm redis
  install_files 'redis\.(conf|service)'
  check
  log "Redis $(pinned artifacts redis version)"
}

main "$@"
