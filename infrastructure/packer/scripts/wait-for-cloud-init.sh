#!/usr/bin/env bash
# Waits until cloud-init has set the builder up, then makes the directory that the build uploads to.
#
# It runs as the user who uploads, and becomes root only after the wait: cloud-init writes the rule for sudo.
# Input:      STAGING, the directory to make.
# Output:     STAGING, empty and this user's.
# Idempotent: yes.
set -o errexit -o nounset -o pipefail

main() {
  local status
  # cloud-init may still be installing keys, growing the root and holding the package manager's lock.
  # Exit code 2 means that it finished with recoverable errors (a deprecated key in somebody's user data, say).
  status=0
  timeout 300 cloud-init status --wait >/dev/null || status=$?
  if ((status != 0 && status != 2)); then
    cloud-init status --long >&2
    echo "wait-for-cloud-init: ERROR: cloud-init did not finish on the builder (exit code ${status})" >&2
    exit 1
  fi
  sudo install --directory --owner="$(id --user)" --mode=0755 \
    "${STAGING:?}" "${STAGING}/bundle" "${STAGING}/package-cache" "${STAGING}/keys"
}

main "$@"
