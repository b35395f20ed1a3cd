#!/usr/bin/env bash
# Asks the API for its health, and calls zmanim-host when there is anything to decide. zmanim-release-health.timer runs
# it every few seconds, so the common case is a question by curl: Python takes ten times as long to start.
#
# Input:      /run/zmanim/release.json (what is in force), /run/zmanim/health.json (there after a failure, or on probation).
# Output:     nothing, or what zmanim-host does about it.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail

readonly STATUS=/run/zmanim/release.json NOTES=/run/zmanim/health.json

main() {
  if [[ -r ${STATUS} && ! -e ${NOTES} ]] && grep --quiet '"on_probation": false' "${STATUS}" &&
    curl --silent --fail --max-time 3 --output /dev/null http://127.0.0.1:8080/health; then
    exit 0
  fi
  exec /opt/zmanim/zmanim-host release-health
}

main "$@"
