#!/usr/bin/env bash
# Asks Amazon's repository, while there is one to ask, which packages it has and which updates the newest release has.
#
# What it does not have nobody issues advisories for. The newest release's updateinfo is fetched as it is: which of its
# security updates an image lacks is worked out from its inventory, then and later on, by the same rules.
# Input:      STAGING.
# Output:     output/core.txt (NAME EPOCH VERSION RELEASE ARCHITECTURE of each package that Amazon's repository offers)
#             and output/updateinfo.xml.gz.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly CORE=amazonlinux

# dnf's configuration lets a repository be left out that can't be reached: then nothing would be wrong with anything.
core() { dnf --assumeyes --quiet --repo="${CORE}" --setopt="${CORE}.skip_if_unavailable=False" "$@"; }

main() {
  core repoquery --queryformat '%{name} %{epoch} %{version} %{release} %{arch}\n' |
    sed '/^$/d' >"${STAGING}/output/core.txt"
  [[ -s ${STAGING}/output/core.txt ]] || die "the repository ${CORE} offers nothing"

  local -r cache="${STAGING}/latest"
  local -a found
  # With a cache of its own, so that no other release's metadata is taken for it.
  core --releasever=latest --setopt=cachedir="${cache}" --refresh makecache
  mapfile -t found < <(find "${cache}" -name '*updateinfo.xml.gz')
  expect "how many files of advisories the newest release has" "${#found[@]}" 1
  gzip --test "${found[0]}"
  install --mode=0644 "${found[0]}" "${STAGING}/output/updateinfo.xml.gz"
  rm --recursive --force "${cache}"
  log "$(wc --lines <"${STAGING}/output/core.txt") packages, $(zgrep --count '<id>' "${STAGING}/output/updateinfo.xml.gz") advisories"
}

main "$@"
