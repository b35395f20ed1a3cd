#!/usr/bin/env bash
# Removes compilers and headers. A finished image has no use for them, an intruder has.
#
# Input:      STAGING, POSTGRESQL_REPO.
# Output:     none of the versions file's build_packages is installed, nor what only they needed.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

main() {
  local name
  local -a installed=()
  for name in $(package_names build_packages); do
    if rpm --query "${name}" >/dev/null; then
      installed+=("${name}")
    fi
  done
  if ((${#installed[@]} > 0)); then
    dnf --assumeyes --quiet remove "${installed[@]}"
  fi
  expect "what compiles" "$(command -v gcc cc make rpmbuild)" ""
  # Removing what only the compilers needed must not have taken what was compiled.
  rpm --query "${COMPILED[@]}" "postgresql$(postgresql_major)-server" >/dev/null
  log "${#installed[@]} packages removed"
}

main "$@"
