#!/usr/bin/env bash
# Writes what is in the image, as JSON, into the image and for Packer to fetch.
#
# Input:      STAGING, POSTGRESQL_REPO.
# Output:     /usr/share/zmanim/inventory.json and output/inventory.json.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  # With the uploaded files' modules; it leaves no byte code beside them.
  PYTHONPATH="${STAGING}/files" python3 -B "${STAGING}/scripts/inventory.py" >"${STAGING}/output/inventory.json"
  install --mode=0644 "${STAGING}/output/inventory.json" /usr/share/zmanim/inventory.json
  log "$(wc --lines <"${STAGING}/output/inventory.json") lines"
}

main "$@"
