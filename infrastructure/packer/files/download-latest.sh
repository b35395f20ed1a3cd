#!/usr/bin/env bash
# Chooses the release of the API that is about to start. zmanim-api.service runs it before every start.
#
# There is no release channel yet: it downloads nothing and serves the release that the image was baked with. It runs as
# the API's user and can change nothing below /opt/zmanim.
# Input:   /opt/zmanim/current.
# Output:  a line in the journal; exit code 1 when there is nothing to start.
# Twice:   yes.
set -o errexit -o nounset -o pipefail

main() {
  local release
  release=$(readlink --canonicalize-existing /opt/zmanim/current) || {
    echo "ERROR: /opt/zmanim/current leads nowhere: there is no release to start" >&2
    exit 1
  }
  [[ -x ${release}/zmanim-api ]] || {
    echo "ERROR: ${release}/zmanim-api is missing or can't be run" >&2
    exit 1
  }
  echo "starting $(basename "${release}"), the release that came with the image (no release channel is followed)" >&2
}

main "$@"
