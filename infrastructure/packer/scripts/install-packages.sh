#!/usr/bin/env bash
# Makes the system users, then installs every package of the versions file, and what earlier builds compiled, in one
# transaction.
#
# Input:      STAGING, POSTGRESQL_REPO.
# Output:     the packages, each at its minimum version or newer; package-cache/ used where a digest fits.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=build-rpm.sh
source "$(dirname "${BASH_SOURCE[0]}")/build-rpm.sh"

# The data volume outlives the image: files on it carry numbers, so the numbers are fixed before a package picks its own.
make_users() {
  install_files 'zmanim-sysusers\.conf'
  systemd-sysusers /usr/lib/sysusers.d/zmanim.conf
  local type name id rest
  while read -r type name id rest; do
    [[ ${type} != u ]] || expect "the number of ${name}, with which data volumes are written," "$(id --user "${name}")" "${id}"
  done </usr/lib/sysusers.d/zmanim.conf
}

# Only a miss costs: everything that compiling needs comes in the same transaction.
plan_compiled() {
  local name rpm
  for name in "${COMPILED[@]}"; do
    rpm="${STAGING}/package-cache/$(rpm_file_name "${name}")"
    if [[ -f ${rpm} ]]; then
      log "${name}: compiled by an earlier build ($(basename "${rpm}"))"
      compiled+=("${rpm}")
    else
      log "${name}: to be compiled"
      to_compile=yes
    fi
  done
}

# Amazon's repository has packages of the same names, and a better priority. Shut out for good, not for this transaction:
# a later upgrade must not mix them either.
use_pgdg() {
  local -r rpm="${STAGING}/pgdg-repo.rpm" core=/etc/yum.repos.d/amazonlinux.repo
  download "$(pinned artifacts pgdg_repo url)" "$(pinned artifacts pgdg_repo sha256)" "${rpm}"
  dnf --assumeyes --quiet install "${rpm}"
  rm "${rpm}"
  sed --in-place --expression '/^excludepkgs=postgresql\*$/d' --expression '/^\[amazonlinux]$/a excludepkgs=postgresql*' "${core}"
  grep --quiet '^excludepkgs=postgresql\*$' "${core}" || die "${core} defines no repository [amazonlinux]"
}

main() {
  make_users
  if [[ ${POSTGRESQL_REPO} == pgdg ]]; then
    use_pgdg
  fi

  local -a names compiled=()
  local to_compile=""
  mapfile -t names < <(package_names packages)
  # First and alone: it brings the repository that the rest is installed from.
  if [[ " ${names[*]} " == *" spal-release "* ]]; then
    dnf --assumeyes --quiet --setopt=install_weak_deps=False install spal-release
  fi
  plan_compiled
  if [[ -n ${to_compile} ]]; then
    mapfile -t -O "${#names[@]}" names < <(package_names build_packages)
  fi
  dnf --assumeyes --quiet --setopt=install_weak_deps=False install "${names[@]}" "${compiled[@]}"

  expect "what is missing or too old" "$(wrong_packages)" ""
  log "${#names[@]} packages are there"
}

main "$@"
