#!/usr/bin/env bash
# Turns a pinned source into an installed RPM. Sourced, never run; it brings lib.sh.
#
# As RPMs, so that `rpm -qa` and the inventory know what was compiled and the next build can use it again.
# Input:  STAGING; scripts/specs/NAME.spec; the artifact NAME of the versions file.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What is compiled. PGDG has packages of PostgreSQL's extensions.
# shellcheck disable=SC2034 # the scripts that source this use it
case ${POSTGRESQL_REPO} in
  amazonlinux) readonly -a COMPILED=(redis pgvector pg_cron) ;;
  pgdg) readonly -a COMPILED=(redis) ;;
  *) die "POSTGRESQL_REPO is amazonlinux or pgdg, not ${POSTGRESQL_REPO}" ;;
esac

# rpm_digest NAME prints what the RPM depends on, as twelve hex digits: the spec, the source, PostgreSQL's major, the base
# and the architecture.
rpm_digest() {
  {
    cat "${STAGING}/scripts/specs/$1.spec"
    pinned artifacts "$1" sha256
    postgresql_major
    rpm --query system-release
    rpm --eval '%{_arch}'
  } | sha256sum | cut -c 1-12
}

# rpm_file_name NAME prints the RPM's file name. The digest is in it (as the release), so a wrong one can't be taken.
rpm_file_name() {
  printf '%s-%s-1.%s.%s.rpm\n' "$1" "$(pinned artifacts "$1" version)" "$(rpm_digest "$1")" "$(rpm --eval '%{_arch}')"
}

# ensure_rpm NAME installs the RPM of the artifact NAME, compiled now unless it is there already.
ensure_rpm() {
  local -r name=$1
  local file version digest
  file=$(rpm_file_name "${name}")
  if rpm --query "${file%.rpm}" >/dev/null; then
    return
  fi

  local -r work="/var/tmp/zmanim-rpmbuild-${name}" # /tmp is a tmpfs of half the memory: too small to compile in
  rm --recursive --force "${work}"
  mkdir --parents "${work}"
  version=$(pinned artifacts "${name}" version)
  digest=$(rpm_digest "${name}")
  download "$(pinned artifacts "${name}" url)" "$(pinned artifacts "${name}" sha256)" "${work}/${name}.tar.gz"
  rpmbuild -bb --quiet \
    --define "_topdir ${work}/rpmbuild" --define "_sourcedir ${work}" --define "_rpmdir ${STAGING}/output/rpms" \
    --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
    --define "artifact_version ${version}" --define "artifact_digest ${digest}" \
    --define "postgresql_major $(postgresql_major)" \
    "${STAGING}/scripts/specs/${name}.spec" >"${work}/log" 2>&1 ||
    die "${name} ${version} does not compile: $(tail -n 40 "${work}/log")"
  dnf --assumeyes --quiet install "${STAGING}/output/rpms/${file}"
  rm --recursive --force "${work}"
  log "${name} ${version} compiled"
}
