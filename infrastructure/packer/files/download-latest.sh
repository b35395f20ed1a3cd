#!/usr/bin/env bash
# Checks that there is a release of the API to start, and names it and the reason. zmanim-api.service runs it before every
# start.
#
# The work is done before, by zmanim-release-fetch.service (has a network, can't write what runs) and
# zmanim-release.service (the other way round). This runs as the API's user and can change nothing below /opt/zmanim.
# Input:      /opt/zmanim/current, /run/zmanim/release.json (absent: nothing was chosen in this boot).
# Output:     a line in the journal; exit code 1 when there is nothing to start.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail

readonly STATUS=/run/zmanim/release.json

main() {
  local release version why=""
  release=$(readlink --canonicalize-existing /opt/zmanim/current) || {
    echo "ERROR: /opt/zmanim/current leads nowhere: there is no release to start" >&2
    exit 1
  }
  [[ -x ${release}/zmanim-api ]] || {
    echo "ERROR: ${release}/zmanim-api is missing or can't be run" >&2
    exit 1
  }
  version=$(basename "${release}")
  if [[ -r ${STATUS} ]]; then
    why=$(jq --raw-output --arg version "${version}" 'select(.version == $version).why' "${STATUS}")
  fi
  echo "starting ${version}: ${why:-nothing was chosen in this boot, so what was in force stays}" >&2
}

main "$@"
