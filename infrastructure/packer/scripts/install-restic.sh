#!/usr/bin/env bash
# Installs restic's pinned release.
#
# Input:      STAGING.
# Output:     /usr/local/bin/restic.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  download "$(pinned artifacts restic url)" "$(pinned artifacts restic sha256)" "${STAGING}/restic.bz2"
  # Python's bz2: the program bzip2 would be one more package for this one line.
  python3 -c 'import bz2, shutil, sys
with bz2.open(sys.argv[1]) as packed, open(sys.argv[2], "wb") as program:
    shutil.copyfileobj(packed, program)' "${STAGING}/restic.bz2" "${STAGING}/restic"
  install --mode=0755 "${STAGING}/restic" /usr/local/bin/restic
  rm "${STAGING}/restic.bz2" "${STAGING}/restic"
  expect restic "$(/usr/local/bin/restic version | cut -d ' ' -f 2)" "$(pinned artifacts restic version)"
  log "$(/usr/local/bin/restic version)"
}

main "$@"
