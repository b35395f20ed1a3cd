#!/usr/bin/env bash
# Functions that the build's scripts share. Sourced, never run.
#
# Input:  STAGING, the directory that Packer uploaded to (scripts/, files/, bundle/, versions.json, package-cache/);
#         POSTGRESQL_REPO, the route of PostgreSQL's packages: amazonlinux (without it) or pgdg.

readonly POSTGRESQL_REPO=${POSTGRESQL_REPO:-amazonlinux}
export POSTGRESQL_REPO

# Where the finished image keeps the versions file, for validate.sh, the inventory and whoever looks later.
# shellcheck disable=SC2034 # the scripts that source this use it
readonly SHIPPED_VERSIONS=/usr/share/zmanim/versions.json

log() {
  printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
}

die() {
  log "ERROR: $*"
  exit 1
}

require_environment() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || die "the environment variable ${name} is missing"
  done
}

# pinned KEY... prints the value at that path in the versions file. Python, because jq is one of the packages.
pinned() {
  python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[2:], json.load(open(sys.argv[1]))))' \
    "${STAGING}/versions.json" "$@"
}

# postgresql_major prints what the names of PostgreSQL's packages and directories contain.
postgresql_major() {
  pinned servers postgresql major
}

# package_list [GROUP] prints "NAME MINIMUM REPOSITORY" of every package of the versions file that this route has: of the
# image's, or of another GROUP (build_packages).
package_list() {
  python3 -c 'import json, sys
versions, route, group = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
major = versions["servers"]["postgresql"]["major"]
packages = {name: each for name, each in versions[group].items() if each.get("route", route) == route}
packages.update(versions["pgdg_packages"] if (group, route) == ("packages", "pgdg") else {})
for name, package in packages.items():
    print(*(part.replace("{major}", major) for part in (name, package.get("minimum", "0"), package["repository"])))' \
    "${STAGING}/versions.json" "${POSTGRESQL_REPO}" "${1:-packages}"
}

# at_least FOUND MINIMUM succeeds when the version FOUND is MINIMUM or newer.
at_least() {
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1) == "$2" ]]
}

# check_sha256 FILE EXPECTED fails, and says both, when the file's checksum is another one.
check_sha256() {
  local found
  found=$(sha256sum "$1" | cut -d ' ' -f 1)
  [[ ${found} == "$2" ]] || die "$1 is not what was pinned
  expected: sha256 $2
  found:    sha256 ${found}"
}

# download URL SHA256 FILE fetches over TLS with retries, a size and a time limit; FILE appears only when it is right.
download() {
  local -r url=$1 sha256=$2 file=$3
  log "downloading ${url}"
  curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
    --retry 5 --retry-all-errors --connect-timeout 10 --max-time 300 --max-filesize 200000000 \
    --output "${file}.part" "${url}" || die "could not download ${url}"
  check_sha256 "${file}.part" "${sha256}"
  mv "${file}.part" "${file}"
}
