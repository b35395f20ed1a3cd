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
  local name major
  local -a installed=()
  while read -r name _; do
    if rpm --query "${name}" >/dev/null; then
      installed+=("${name}")
    fi
  done < <(package_list build_packages)
  if ((${#installed[@]} > 0)); then
    dnf --assumeyes --quiet remove "${installed[@]}"
  fi
  for name in gcc cc make rpmbuild; do
    if command -v "${name}" >/dev/null; then
      die "${name} is still there"
    fi
  done
  # Removing what only the compilers needed must not have taken what was compiled.
  major=$(postgresql_major)
  rpm --query "${COMPILED[@]}" "postgresql${major}-server" >/dev/null
  log "${#installed[@]} packages removed"
}

main "$@"
