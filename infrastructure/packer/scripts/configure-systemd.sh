#!/usr/bin/env bash
# Puts the shipped files, the API's release and the units into place, and enables the units.
#
# Input:      STAGING (with release-keys/ if RELEASE_KEYS is not none), IMAGE_VERSION; the packages of the install steps.
# Output:     /opt/zmanim, /etc/zmanim, /etc/restic, /data (an empty mount point), units in /etc/systemd/system.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly UNITS=/etc/systemd/system
# The first preset that names a unit wins, whichever directory it is in.
readonly PRESET=/usr/lib/systemd/system-preset/00-zmanim.preset

install_files() {
  cd "${STAGING}/files"
  install --directory --mode=0755 /opt/zmanim /opt/zmanim/releases /etc/zmanim /etc/restic /data /usr/share/zmanim
  # In /etc/systemd/system, where they win over the packages' own.
  install --mode=0644 --target-directory="${UNITS}" ./*.service ./*.timer ./*.mount ./*.target ./*.path
  install --mode=0644 --target-directory=/etc/zmanim postgresql.conf pg_hba.conf pg_ident.conf redis.conf
  install --mode=0644 --target-directory=/etc/restic backup.conf
  install --mode=0755 --target-directory=/opt/zmanim backup.sh restore.sh notify-failure.sh zmanim-host
  install --mode=0755 --target-directory=/opt/zmanim download-latest.sh check-health.sh
  install --mode=0644 --target-directory=/opt/zmanim config.env.template database.sql
  install -D --mode=0644 zmanim-tmpfiles.conf /usr/lib/tmpfiles.d/zmanim.conf
  install -D --mode=0644 zmanim-sysctl.conf /usr/lib/sysctl.d/60-zmanim.conf
  install -D --mode=0644 zmanim-journald.conf /usr/lib/systemd/journald.conf.d/60-zmanim.conf
  install -D --mode=0644 zmanim-sshd.conf /etc/ssh/sshd_config.d/00-zmanim.conf
  install --mode=0644 --target-directory=/etc/zmanim cloudwatch-agent.json.template
  install -D --mode=0644 zmanim-cloudwatch-agent.conf "${UNITS}/amazon-cloudwatch-agent.service.d/zmanim.conf"
  install -D --mode=0644 zmanim.preset "${PRESET}"
  install --mode=0644 "${STAGING}/versions.json" "${SHIPPED_VERSIONS}"

  # Compiled now, or every boot would compile it again: the units can't write there.
  rm --recursive --force /opt/zmanim/zmanim_host
  install --directory --mode=0755 /opt/zmanim/zmanim_host/{aws,backup,release,secrets,storage}
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host zmanim_host/*.py
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host/aws zmanim_host/aws/*.py
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host/backup zmanim_host/backup/*.py
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host/release zmanim_host/release/*.py
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host/secrets zmanim_host/secrets/*.py
  install --mode=0644 --target-directory=/opt/zmanim/zmanim_host/storage zmanim_host/storage/*.py
  python3 -m compileall -q --invalidation-mode checked-hash /opt/zmanim/zmanim_host
  cd /
}

# The agent's own word on its configuration, by its own schema. What it makes of it is of the bake, and goes away again.
configure_cloudwatch_agent() {
  local -r agent=/opt/aws/amazon-cloudwatch-agent
  local said
  # The agent reads the journal as its own user.
  usermod --append --groups systemd-journal cwagent
  install --directory --mode=0755 "${agent}/etc"
  ZMANIM_ENVIRONMENT=bake /opt/zmanim/zmanim-host cloudwatch-agent
  mv "${agent}/etc/amazon-cloudwatch-agent.json" "${STAGING}/cloudwatch-agent.json"
  said=$("${agent}/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -c "file:${STAGING}/cloudwatch-agent.json" 2>&1) ||
    die "the CloudWatch agent refuses its configuration
${said}"
  rm --recursive --force "${agent}"/etc/amazon-cloudwatch-agent.* "${agent}"/logs/*
  install --directory --mode=0755 "${agent}/etc/amazon-cloudwatch-agent.d"
}

# The release is laid out so that a later one replaces it by one rename of a link. The baked one stays as the floor.
install_release() {
  local -r bundle="${STAGING}/bundle"
  local version sha256
  [[ -f ${bundle}/manifest.json ]] || die "the bundle has no manifest.json: build it first (inv build-binary)"
  version=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["version"])' "${bundle}/manifest.json")
  sha256=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["sha256"])' "${bundle}/manifest.json")
  [[ ${version} == "${IMAGE_VERSION}" ]] || die "the bundle is another version's
  expected: ${IMAGE_VERSION}
  found:    ${version}"
  check_sha256 "${bundle}/zmanim-api" "${sha256}"

  local -r release="/opt/zmanim/releases/${version}"
  rm --recursive --force "${release}"
  install --directory --mode=0755 "${release}" "${release}/migrations"
  install --mode=0755 --target-directory="${release}" "${bundle}/zmanim-api"
  install --mode=0644 --target-directory="${release}" "${bundle}/manifest.json"
  install --mode=0644 --target-directory="${release}/migrations" "${bundle}"/migrations/*.sql
  ln --symbolic --force --no-dereference "releases/${version}" /opt/zmanim/baked
  # The link that moves is in releases/, so that who moves it needs to write nowhere else below /opt/zmanim.
  ln --symbolic --force --no-dereference "${version}" /opt/zmanim/releases/current
  ln --symbolic --force --no-dereference releases/current /opt/zmanim/current
  ln --symbolic --force --no-dereference current/zmanim-api /opt/zmanim/zmanim-api
}

# One public key for each environment whose channel an instance of this image may follow; none, and it follows none.
install_release_keys() {
  local key
  rm --recursive --force /etc/zmanim/release-keys
  install --directory --mode=0755 /etc/zmanim/release-keys
  if [[ ${RELEASE_KEYS} == none ]]; then
    log "no release key was given: instances of this image follow no release channel"
    return
  fi
  for key in "${STAGING}"/release-keys/*.pem; do
    openssl pkey -pubin -in "${key}" -noout || die "${key} is not a public key in PEM"
    install --mode=0644 --target-directory=/etc/zmanim/release-keys "${key}"
    log "follows the release channel of $(basename "${key}" .pem)"
  done
}

# By the preset, so that what is tested here is what a first boot would apply.
enable_units() {
  local -a units=()
  local verb unit
  while read -r verb unit; do
    [[ ${verb} == enable ]] && units+=("${unit}")
  done <"${PRESET}"
  systemctl daemon-reload
  systemctl preset --quiet "${units[@]}"
  for unit in "${units[@]}"; do
    systemctl is-enabled --quiet "${unit}" || die "${unit} is not enabled"
  done
  log "${#units[@]} units enabled"
}

main() {
  require_environment STAGING IMAGE_VERSION RELEASE_KEYS
  install_files
  configure_cloudwatch_agent
  install_release
  install_release_keys
  enable_units
}

main "$@"
