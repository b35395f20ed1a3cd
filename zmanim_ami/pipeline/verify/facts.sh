#!/bin/sh
# What verify-ami keeps of a running instance for whoever reads its report, as root by Run Command (facts.py reads it):
# its boot, what its stores' settings are in force, how exposed each unit is, what it was connected to.
#
# Input:      $1, the part to print, from 1: Run Command shows 24,000 characters of what a script prints. Part 1 collects;
#             the others wait for it, so that all can be asked for at once.
# Output:     how many parts there are, the part, `end`. All parts together are gzip in base64; in that is, for each fact,
#             a line of its name, its state and how many bytes of it follow.
# Idempotent: yes.
set -eu
export LC_ALL=C

DIRECTORY=/run/zmanim-facts
# Kept with facts.py, which asks for as many parts as there can be.
MOST_PARTS=3
PART_BYTES=23000
# A page of all this is to be below 1 MB, and the chart is a third longer in it.
CHART_BYTES=300000

# Take down what a program prints: a fact that can't be had, or is too long, is one that says so.
fact() {
  name=$1 most=$2
  shift 2
  state=known
  if ! timeout 20 "$@" >"${DIRECTORY}/output" 2>"${DIRECTORY}/errors" </dev/null; then
    state=failed
    tail -c 500 "${DIRECTORY}/errors" >"${DIRECTORY}/output"
  elif [ "$(wc -c <"${DIRECTORY}/output")" -gt "${most}" ]; then
    state=too-long
    echo "$(wc -c <"${DIRECTORY}/output") bytes, at most ${most} are kept" >"${DIRECTORY}/said"
    mv "${DIRECTORY}/said" "${DIRECTORY}/output"
  fi
  echo "${name} ${state} $(wc -c <"${DIRECTORY}/output")"
  cat "${DIRECTORY}/output"
  echo
}

# What was chosen by anybody, and no default. What could hold a secret is left out, though none is known that does.
SETTINGS="SELECT coalesce(json_agg(json_build_object('name', name, 'value', current_setting(name), 'source',
  coalesce(sourcefile, source)) ORDER BY name), '[]') FROM pg_settings
  WHERE source NOT IN ('default', 'override', 'client', 'session') AND name !~ '(conninfo|pass|secret)'"

# Of the boot, before anything else is started that would be in it.
collect_boot() {
  fact time 1000 systemd-analyze time
  fact blame 20000 systemd-analyze blame --no-pager
  fact chain 8000 systemd-analyze critical-chain --no-pager zmanim-ready.service
}

collect() {
  fact exposure 40000 systemd-analyze security --no-pager --json=short
  # What lies in /etc is the image's own, and the rest its base's.
  fact own-units 20000 find /etc/systemd/system -maxdepth 1 -type f -name '*.service' -printf '%f\n'
  fact postgresql 60000 runuser -u postgres -- \
    psql --no-psqlrc --quiet --tuples-only --no-align --dbname=postgres --command="${SETTINGS}"
  # No user of Redis may ask for its settings, or change them: what it was started with is in force, and it says some.
  fact redis-files 20000 cat /etc/zmanim/redis.conf /run/zmanim/redis.conf
  REDISCLI_AUTH=$(cat /run/zmanim/secrets/ready/redis-password)
  export REDISCLI_AUTH
  fact redis-says 20000 redis-cli -s /run/redis/redis.sock --user ready --no-auth-warning INFO
  fact connections 20000 ss --tcp --numeric --no-header --processes state established
}

pack() {
  gzip --best --no-name | base64 -w0 >"${DIRECTORY}/packing"
}

make_parts() {
  # It is there already where somebody asks again.
  [ -d "${DIRECTORY}" ] || mkdir -m 0700 "${DIRECTORY}"
  # systemd charts no boot that has still something to do. Its exit code tells a failed unit as well, which is no matter.
  boot=$(timeout 60 systemctl is-system-running --wait) || echo "systemd says ${boot:-nothing}" >&2
  collect_boot >"${DIRECTORY}/facts"
  fact chart "${CHART_BYTES}" systemd-analyze plot >"${DIRECTORY}/chart"
  : >"${DIRECTORY}/boot-is-known"
  collect >>"${DIRECTORY}/facts"
  cat "${DIRECTORY}/facts" "${DIRECTORY}/chart" | pack
  if [ "$(wc -c <"${DIRECTORY}/packing")" -gt "$((MOST_PARTS * PART_BYTES))" ]; then
    why="it does not fit into ${MOST_PARTS} answers of ${PART_BYTES} characters"
    printf 'chart too-long %s\n%s\n' "${#why}" "${why}" | cat "${DIRECTORY}/facts" - | pack
  fi
  rm -f "${DIRECTORY}/output" "${DIRECTORY}/errors" "${DIRECTORY}/facts" "${DIRECTORY}/chart"
  mv "${DIRECTORY}/packing" "${DIRECTORY}/packed"
}

wait_for_parts() {
  tries=0
  while [ ! -e "${DIRECTORY}/packed" ]; do
    if [ "${tries}" -ge 450 ]; then
      echo "part 1 was not made within 90 s" >&2
      exit 1
    fi
    tries=$((tries + 1))
    sleep 0.2
  done
}

if [ "$1" -eq 1 ]; then
  make_parts
else
  wait_for_parts
fi
echo "parts $((($(wc -c <"${DIRECTORY}/packed") + PART_BYTES - 1) / PART_BYTES))"
echo "part $(cut -c "$((($1 - 1) * PART_BYTES + 1))-$(($1 * PART_BYTES))" "${DIRECTORY}/packed")"
echo end
