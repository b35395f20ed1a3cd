#!/usr/bin/env bash
# Removes compilers and headers. A finished image has no use for them, an intruder has.
#
# Input:      STAGING, POSTGRESQL_REPO.
# Output:     none of build-rpm.sh's BUILD_PACKAGES is installed, nor what only they needed.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

main() {
  local name
  local -a installed=()
  for name in "${BUILD_PACKAGES[@]}"; do
    if rpm --query "${name}" >/dev/null; then
      installed+=("${name}")
    fi
  done
  if ((${#installed[@]} > 0)); then
    dnf --assumeyes --quiet remove "${installed[@]}"
  fi
  for name in gcc cc make rpmbuild; do
    if command -v "${name}" >/dev/null; then
      die "${name} is still there"
    fi
  done
  # Removing what only the compilers needed must not have taken what was compiled.
  rpm --query "${COMPILED[@]}" postgresql17-server >/dev/null
  log "${#installed[@]} packages removed"
}

main "$@"
