#!/bin/sh
# What instance.list and instance.swap ask an instance, as root by Run Command (state.py reads the answers).
#
# Input:      $1, backups, when its backups are to be listed too (some seconds of restic).
# Output:     lines of a name and a value, `end` last; values that may hold anything are in base64.
# Idempotent: yes, it changes nothing.
set -eu

# A database that another image has changed is told by this: by migrations, or by an extension that followed it.
CHANGED_BY_IMAGES="SELECT 'migration ' || version FROM public.schema_migrations
  UNION ALL SELECT 'extension ' || extname || ' ' || extversion FROM pg_extension
  UNION ALL SELECT 'server ' || current_setting('server_version_num')::int / 10000 ORDER BY 1"

cd /
echo "release $(basename "$(readlink -f /opt/zmanim/current)")"
for name in ready serving; do
  if [ -e "/run/zmanim/${name}.json" ]; then
    echo "${name} $(base64 -w0 "/run/zmanim/${name}.json")"
  fi
done
if mountpoint --quiet /data; then
  echo "used-percent $(df --output=pcent /data | sed -n '2s/[ %]//gp')"
fi
# What a backup, a restore and an adoption hold while they run.
if [ -d /data/backup ] && ! flock --nonblock /data/backup true; then
  echo "busy yes"
fi
if rows=$(runuser -u postgres -- psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
  --dbname=zmanim --command="${CHANGED_BY_IMAGES}"); then
  echo "database $(printf '%s' "${rows}" | sha256sum | cut -c1-16)"
fi
if [ "${1:-}" = backups ]; then
  if runs=$(/opt/zmanim/restore.sh --list --json); then
    echo "backups $(printf '%s' "${runs}" | gzip --best --no-name | base64 -w0)"
  fi
fi
echo end
