#!/bin/sh
# What verify-ami writes on an instance and looks for on another boot or another machine, as root by Run Command
# (trial.py reads the answers).
#
# Input:      $1, write or read; $2, of `write`: the word that this machine's rows and keys are made of.
# Output:     of `read`: lines of a name and a value, `end` last.
# Idempotent: reading is; what is written can be written once.
set -eu

ROWS=1000
# Longer than any verification: what is left of it shows that a key's time was kept.
TTL=86400

query() {
  runuser -u "$1" -- psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname=zmanim \
    --command="$2"
}

# As the API's own user, by the address that the API is given; in that the password is percent-encoded.
PASSWORD='import re, urllib.parse
text = open("/run/zmanim/secrets/api.env").read()
print(urllib.parse.unquote(re.search("redis://zmanim:([^@]*)@", text)[1]))'

redis() {
  REDISCLI_AUTH=$(python3 -c "${PASSWORD}") redis-cli --user zmanim --no-auth-warning -e "$@"
}

write() {
  query zmanim "CREATE TABLE verification_trial (n integer PRIMARY KEY, word text NOT NULL);
    INSERT INTO verification_trial SELECT n, '$1' || n FROM generate_series(1, ${ROWS}) AS n"
  query postgres "CREATE ROLE verification_reader NOLOGIN; GRANT SELECT ON verification_trial TO verification_reader"
  redis SET verification:lasting "$1" >&2
  redis SET verification:expiring "$1" EX "${TTL}" >&2
}

read_back() {
  echo "rows $(query zmanim "SELECT count(*) FROM verification_trial")"
  echo "digest $(query zmanim "SELECT md5(string_agg(word, ',' ORDER BY n)) FROM verification_trial")"
  echo "right $(query postgres "SELECT has_table_privilege('verification_reader', 'verification_trial', 'SELECT')")"
  echo "lasting $(redis GET verification:lasting)"
  echo "expiring $(redis GET verification:expiring)"
  echo "ttl $(redis TTL verification:expiring)"
  echo end
}

cd /
case "$1" in
  write) write "$2" ;;
  read) read_back ;;
  *)
    echo "expected write or read, found $1" >&2
    exit 2
    ;;
esac
