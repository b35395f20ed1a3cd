#!/usr/bin/env bash
# Puts everything that ships into place, the API's release among it, and enables the units.
#
# Input:      STAGING (with keys/ if RELEASE_KEYS is not none), IMAGE_VERSION; the packages of the steps before.
# Output:     what files/install.tsv lists; the units that zmanim.preset names are enabled.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A bundle of another version would be an image of another version.
check_bundle() {
  local -r bundle="${STAGING}/bundle"
  [[ -f ${bundle}/manifest.json ]] || die "the bundle has no manifest.json: build it first (inv build-binary)"
  expect "the bundle's version" "$(json_value "${bundle}/manifest.json" version)" "${IMAGE_VERSION}"
  check_sha256 "${bundle}/zmanim-api" "$(json_value "${bundle}/manifest.json" sha256)"
}

# One public key for each environment whose channel an instance of this image may follow, with the newest serial that the
# channel has now; none, and it follows none.
check_release_keys() {
  local key serial
  if [[ ${RELEASE_KEYS} == none ]]; then
    log "no release key was given: instances of this image follow no release channel"
    return
  fi
  for key in "${STAGING}"/keys/*.pem; do
    openssl pkey -pubin -in "${key}" -noout || die "${key} is not a public key in PEM"
    serial=$(<"${key%.pem}.serial")
    [[ ${serial} =~ ^[0-9]{1,16}$ ]] || die "${key%.pem}.serial is no serial"
    log "follows the release channel of $(basename "${key}" .pem) from serial ${serial} on"
  done
}

# A later release replaces this one by one rename of a link. The one that came with the image stays.
link_release() {
  ln --symbolic --force --no-dereference "releases/${IMAGE_VERSION}" /opt/zmanim/baked
  # The link that moves is in releases/, so that who moves it needs to write nowhere else below /opt/zmanim.
  ln --symbolic --force --no-dereference "${IMAGE_VERSION}" /opt/zmanim/releases/current
  ln --symbolic --force --no-dereference releases/current /opt/zmanim/current
  ln --symbolic --force --no-dereference current/zmanim-api /opt/zmanim/zmanim-api
}

# The agent checks its configuration by its own schema. What it writes meanwhile is of the build, and goes away again.
configure_cloudwatch_agent() {
  local -r agent=/opt/aws/amazon-cloudwatch-agent
  local output
  # The agent reads the journal as its own user.
  usermod --append --groups systemd-journal cwagent
  install --directory --mode=0755 "${agent}/etc"
  ZMANIM_ENVIRONMENT=build /opt/zmanim/zmanim-host cloudwatch-agent
  mv "${agent}/etc/amazon-cloudwatch-agent.json" "${STAGING}/cloudwatch-agent.json"
  output=$("${agent}/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -c "file:${STAGING}/cloudwatch-agent.json" 2>&1) ||
    die "the CloudWatch agent refuses its configuration: ${output}"
  rm --recursive --force "${agent}"/etc/amazon-cloudwatch-agent.* "${agent}"/logs/*
  install --directory --mode=0755 "${agent}/etc/amazon-cloudwatch-agent.d"
}

# By the preset, so that what is tested here is what a first boot would apply.
enable_units() {
  local -a units
  local unit
  mapfile -t units < <(enabled_units)
  systemctl daemon-reload
  systemctl preset --quiet "${units[@]}"
  for unit in "${units[@]}"; do
    systemctl is-enabled --quiet "${unit}" || die "${unit} is not enabled"
  done
  log "${#units[@]} units enabled"
}

main() {
  require_environment IMAGE_VERSION RELEASE_KEYS
  check_bundle
  check_release_keys
  install_files '.*'
  # Compiled now, or every boot would compile it again: the units can't write there.
  python3 -m compileall -q --invalidation-mode checked-hash /opt/zmanim/zmanim_host
  link_release
  configure_cloudwatch_agent
  enable_units
}

main "$@"
