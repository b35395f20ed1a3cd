#!/bin/sh
# What verify-ami asks a running instance, as root by Run Command (inspection.py reads the answers).
#
# Input:      none.
# Output:     lines of a name and a value, `end` last; values that may hold anything are in base64.
# Idempotent: yes, it changes nothing.
#
# Which program is it that answers? Not /proc/PID/exe alone: where ARM64 is emulated that is the emulator. Nor a path,
# for the file behind it may have been exchanged since the start. So: each file that is mapped into the service's main
# process, hashed through /proc/PID/map_files, which opens what is really mapped. The kernel maps a program that it
# runs, and so does an emulator.
set -eu

mapped_files() {
  # maps pads its addresses with zeros, map_files does not; lines with inode 0 are no files.
  sed -n 's|^0*\([0-9a-f]\{1,\}\)-0*\([0-9a-f]\{1,\}\) [^ ]* [^ ]* [^ ]* [1-9][0-9]* .*$|\1-\2|p' "/proc/$1/maps" |
    while read -r range; do
      sha256sum "/proc/$1/map_files/${range}" | cut -d' ' -f1
    done | sort -u
}

version_of() {
  "$@" 2>&1 | sed -n 1p
}

pid=$(systemctl show --property=MainPID --value zmanim-api.service)
echo "main-pid ${pid}"
if [ "${pid}" -gt 0 ]; then
  mapped_files "${pid}" | sed 's/^/mapped /'
fi
echo "manifest $(base64 -w0 /opt/zmanim/baked/manifest.json)"
echo "current $(readlink -f /opt/zmanim/current)"
echo "baked $(readlink -f /opt/zmanim/baked)"

body=$(mktemp)
status=$(curl --silent --max-time 10 --output "${body}" --write-out '%{http_code}' http://127.0.0.1:8080/health) ||
  echo "curl ended with exit code $?" >&2
echo "health-status ${status}"
echo "health $(base64 -w0 "${body}")"
rm -f "${body}"

ss --listening --tcp --udp --numeric --no-header | while read -r protocol _state _received _sent address _peer; do
  echo "listening ${protocol} ${address}"
done

# Compressed: Run Command shows 24,000 characters of what a script prints, and the names alone would take half of them.
inventory='import json; print(json.dumps(json.load(open("/usr/share/zmanim/inventory.json"))["packages"]))'
packages=$(python3 -c "${inventory}" | gzip --best --no-name | base64 -w0)
echo "packages ${packages}"

# What tells machines apart has to be this one's own: made since it booted, not by the builder. The image's machine-id is
# an empty file, so what counts is when it was written. Of wtmp it is the first record, for the file is the image's too.
echo "booted $(systemctl show --property=UserspaceTimestamp --value --timestamp=unix | tr -d @)"
echo "made:/etc/machine-id $(stat --format=%Y /etc/machine-id)"
for path in /etc/ssh/ssh_host_*_key /var/lib/systemd/random-seed; do
  if [ -e "${path}" ]; then
    echo "made:${path} $(stat --format=%W "${path}")"
  fi
done
record=$(utmpdump /var/log/wtmp 2>/dev/null | sed -n '1s/.*\[\([^]]*\)\] *$/\1/p')
if [ -n "${record}" ]; then
  echo "made:/var/log/wtmp $(date --date="${record}" +%s)"
fi

echo "kernel $(uname -r)"
echo "os $(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)"
echo "systemd $(version_of systemctl --version)"
echo "postgresql $(version_of postgres --version)"
echo "redis $(version_of redis-server --version)"
echo "restic $(version_of restic version)"
echo end
