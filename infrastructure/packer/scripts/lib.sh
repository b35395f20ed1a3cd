#!/usr/bin/env bash
# Functions that the build's scripts share. Sourced, never run.
#
# Input: STAGING, the directory that Packer uploaded to (scripts/, files/, bundle/, keys/, versions.json, package-cache/);
#        POSTGRESQL_REPO, the route of PostgreSQL's packages: amazonlinux (without it) or pgdg.

readonly POSTGRESQL_REPO=${POSTGRESQL_REPO:-amazonlinux}
export POSTGRESQL_REPO

# Where the finished image keeps the versions file, for validate.sh, the inventory and whoever looks later.
# shellcheck disable=SC2034 # the scripts that source this use it
readonly SHIPPED_VERSIONS=/usr/share/zmanim/versions.json
# The first preset that names a unit wins, whichever directory it is in.
readonly PRESET=/usr/lib/systemd/system-preset/00-zmanim.preset

log() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

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
require_environment STAGING

# json_value FILE KEY... prints the value at that path. Python, because jq is one of the packages.
json_value() {
  python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"
}

# pinned KEY... prints the value at that path in the versions file.
pinned() { json_value "${STAGING}/versions.json" "$@"; }

# postgresql_major prints what the names of PostgreSQL's packages and directories contain.
postgresql_major() { pinned servers postgresql major; }

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

# package_names GROUP prints the names alone.
package_names() { package_list "$1" | cut -d ' ' -f 1; }

# wrong_packages prints a line for each package of package_list that is missing or older than its minimum.
wrong_packages() {
  local name minimum repository found
  while read -r name minimum repository; do
    if ! found=$(rpm --query --queryformat '%{VERSION}' "${name}"); then
      echo "${name} is not installed"
    elif [[ $(printf '%s\n%s\n' "${minimum}" "${found}" | sort --version-sort | head -n 1) != "${minimum}" ]]; then
      echo "${name} (${repository}) is ${found}, and should be ${minimum} or newer"
    fi
  done < <(package_list)
}

# redis_version prints the version of the Redis that is installed.
redis_version() { redis-server --version | sed --regexp-extended 's/.* v=([0-9.]+) .*/\1/'; }

# wrong WORDS... is called with what is not as it should be: it ends the step. validate.sh has one that goes on.
wrong() { die "$@"; }

# expect WHAT FOUND EXPECTED
expect() { [[ $2 == "$3" ]] || wrong "$1 is $2, and should be $3"; }

# check_sha256 FILE EXPECTED fails, and says both, when the file's checksum is another one.
check_sha256() {
  expect "the SHA-256 of $1" "$(sha256sum <"$1" | cut -d ' ' -f 1)" "$2"
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

# install_files PATTERN installs those rows of files/install.tsv whose whole source the regular expression matches.
install_files() {
  local -a rows fields as
  local source destination number
  mapfile -t -u 3 rows 3<"${STAGING}/files/install.tsv"
  for ((number = 2; number <= ${#rows[@]}; number++)); do
    IFS=$'\t' read -r -a fields <<<"${rows[number - 1]}"
    ((${#fields[@]} == 5)) || die "install.tsv, line ${number}: ${#fields[@]} fields, and should be 5"
    [[ ${fields[1]} =~ ^($1)$ ]] || continue
    source="${STAGING}/files/${fields[1]}" destination=${fields[2]/VERSION/${IMAGE_VERSION}}
    [[ ${fields[1]} != build:* ]] || source="${STAGING}/${fields[1]#build:}"
    as=(--owner="${fields[3]%:*}" --group="${fields[3]#*:}" --mode="${fields[4]}")
    case ${fields[0]} in
      directory) install --directory "${as[@]}" "${destination}" ;;
      file) install -D "${as[@]}" "${source}" "${destination}" ;;
      tree)
        rm --recursive --force "${destination}"
        install --directory "$(dirname "${destination}")"
        cp --recursive "${source}" "${destination}"
        find "${destination}" -name __pycache__ -prune -exec rm --recursive {} +
        find "${destination}" -type d -exec chmod 0755 {} + -o -exec chmod "${fields[4]}" {} +
        chown --recursive "${fields[3]}" "${destination}"
        ;;
      *) die "install.tsv, line ${number}: the type is ${fields[0]}, and should be file, tree or directory" ;;
    esac
  done
}

# enabled_units prints what the preset enables.
enabled_units() { sed --quiet 's/^enable //p' "${PRESET}"; }

# last_writers prints each unit that runs and would write to the disk after cleanup.sh, up to the builder's end: the base's
# timers with what they start (sysstat, update-motd, dnf-makecache), and what has a last word when it is stopped: the seed
# of random numbers, the shutdown's record in wtmp, a login prompt's in the same, chrony's drift. cleanup.sh stops them,
# validate.sh asserts that none runs.
last_writers() {
  local -a triggered
  mapfile -t triggered < <(systemctl show --property=Triggers --value '*.timer' | tr ' ' '\n' | sed '/^$/d')
  systemctl list-units --plain --no-legend --no-pager --state=active,activating '*.timer' "${triggered[@]}" \
    'systemd-random-seed*' 'systemd-update-utmp*' '*getty@*' chronyd.service | cut -d ' ' -f 1
}

# leftovers prints each path that is of the build or of the builder, and must not be in the image. cleanup.sh removes
# them, validate.sh asserts that there is none.
leftovers() (
  shopt -s nullglob dotglob
  local path
  for path in \
    /var/lib/dbus/machine-id /etc/hostname /etc/ssh/ssh_host_* \
    /var/lib/systemd/{random-seed,credential.secret,timers,coredump} \
    /var/lib/cloud/{data,instance,instances,sem} /var/lib/{dhclient,dhcpcd} /var/lib/amazon/ssm /var/lib/chrony/* \
    /var/cache/{dnf,yum} /var/lib/dnf/history.sqlite* \
    {/root,/home/*}/{.*_history,.lesshst,.viminfo,.cache,.aws,.config} /var/log/journal/*; do
    [[ ! -e ${path} && ! -L ${path} ]] || echo "${path}"
  done
  find /var/log -type f \( -name '*.gz' -o -name '*-[0-9]*' -o -name 'cloud-init*' -o -name 'dnf*' \)
  find /var/tmp /tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' ! -name 'script_*.sh'
)
