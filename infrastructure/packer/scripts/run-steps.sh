#!/usr/bin/env bash
# Runs the build's steps one after the other on the builder and says how long each took.
#
# One process for all of them: a Packer provisioner for each would cost four round trips a step.
# Input:      the steps' names, in order; STAGING and what the steps read from the environment.
# Output:     the steps' own, and output/ for Packer to fetch.
# Idempotent: as far as every step may.
set -o errexit -o nounset -o pipefail

main() {
  local step start summary=""
  install --directory --mode=0755 "${STAGING:?}/output" "${STAGING}/output/rpms"
  for step in "$@"; do
    start=${EPOCHREALTIME/./}
    bash "${STAGING}/scripts/${step}.sh"
    summary+=" ${step}=$(printf '%d.%d' $(((${EPOCHREALTIME/./} - start) / 1000000)) $(((${EPOCHREALTIME/./} - start) / 100000 % 10)))s"
  done
  echo "run-steps: seconds:${summary}" >&2
}

main "$@"
