#!/bin/bash
# Process 1 of a guest that boots in seconds, and what runs in it between two power cuts.
#
# Input: a verb with its arguments; none when the kernel starts it. Output: what was acknowledged goes to the console, a
# line `@WHO NUMBER` each; the other verbs answer on stdout. Idempotent: yes.
set -o errexit -o nounset -o pipefail

readonly DATA=/data TEMPLATE=/srv/cluster
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

boot() {
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t devtmpfs devtmpfs /dev
  mount -t tmpfs tmpfs /run
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  mkdir -p /dev/shm "${DATA}"
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  modprobe -a virtio_console xfs
  # A flush of its own every 5 seconds would make sure of what was written just before a cut.
  mount -o remount,commit=300 /
  ip link set lo up
  echo 3 >/proc/sys/kernel/printk
  python3 /usr/lib/localcloud/agent.py &
  mount_volume
  touch /run/ready
  while :; do wait -n || sleep 1; done
}

# The data volume is the disk without a partition.
mount_volume() {
  local disk="" each
  until [[ -b "${disk}" ]]; do
    for each in /dev/nvme?n1; do
      [[ -b "${each}p1" ]] || disk="${each}"
    done
  done
  if ! mount -t xfs "${disk}" "${DATA}" 2>/dev/null; then
    mkfs.xfs -q "${disk}"
    mount "${disk}" "${DATA}"
    mkdir "${DATA}/files"
  fi
}

# NAME FSYNC: start that cluster; make it anew where it does not start, and say so.
start_postgresql() {
  [[ -d "${DATA}/$1" ]] || new_cluster "$1"
  if ! postgresql "$1" "$2"; then
    echo "$1 does not start"
    rm -rf "${DATA:?}/$1"
    new_cluster "$1"
    postgresql "$1" "$2"
  fi
}

# Each as a user of its own: the number in one's stale postmaster.pid may be the other's now.
user_of() {
  case "$1" in
    on) echo postgres ;;
    *) echo nobody ;;
  esac
}

new_cluster() {
  cp --archive "${TEMPLATE}" "${DATA}/$1"
  chown -R "$(user_of "$1")" "${DATA}/$1"
}

postgresql() {
  mkdir -p "/tmp/$1"
  chown "$(user_of "$1")" "/tmp/$1"
  as_user_of "$1" pg_ctl --silent --timeout=120 --wait --pgdata="${DATA}/$1" --log="/tmp/$1/log" --options="-c fsync=$2 \
    -c listen_addresses= -c unix_socket_directories=/tmp/$1 -c autovacuum=off -c shared_buffers=16MB" start </dev/null
}

as_user_of() {
  setpriv --reuid "$(user_of "$1")" --regid postgres --clear-groups -- "${@:2}"
}

start_redis() {
  mkdir -p "${DATA}/redis"
  redis
  if ! ask_redis PING >/dev/null; then
    echo "redis does not start"
    rm -r "${DATA}/redis"
    mkdir "${DATA}/redis"
    redis
    ask_redis PING >/dev/null
  fi
}

redis() {
  redis-server --daemonize yes --dir "${DATA}/redis" --logfile /tmp/redis.log --appendonly yes --appendfsync no --save ''
}

# One command; its answer's first line, without the sign of its type.
ask_redis() {
  local answer
  for _ in $(seq 50); do
    if exec 3<>/dev/tcp/127.0.0.1/6379; then
      printf '%s\r\n' "$*" >&3
      read -r answer <&3
      exec 3>&-
      answer="${answer%$'\r'}"
      case "${answer}" in
        -LOADING*) ;;
        *)
          echo "${answer#?}"
          return
          ;;
      esac
    fi 2>/dev/null
    sleep 0.2
  done
  return 1
}

# TEXT FILE: put it there past the kernel's own cache, and leave it to the disk whether it stays.
direct() {
  echo "$1" | dd of="$2" bs=4096 conv=sync,notrunc oflag=direct status=none
}

# Start all that is written to, and make sure of what is there: a cut takes what comes later.
start() {
  start_postgresql on on
  start_postgresql off off
  start_redis
  sync
}

# FIRST: write numbers from there on, in the background, until the power is cut.
write() {
  local who
  for who in on off; do
    insert "${who}" "$1" >/dev/ttyS0 2>/dev/null </dev/null &
  done
  increment >/dev/ttyS0 2>/dev/null </dev/null &
  files "$1" >/dev/ttyS0 2>/dev/null </dev/null &
}

insert() {
  local number
  for ((number = $2; ; number++)); do
    echo "INSERT INTO acked VALUES (${number}) RETURNING '@$1 ' || n;"
  done | query "$1"
}

query() {
  psql --no-psqlrc --quiet --tuples-only --no-align --host="/tmp/$1" --username=postgres --dbname=postgres
}

increment() {
  local answer
  exec 3<>/dev/tcp/127.0.0.1/6379
  while :; do
    printf 'INCR counter\r\n' >&3
    read -r answer <&3
    echo "@redis ${answer//[^0-9]/}"
  done
}

# New files, each with its own entry in the directory: what syncs them is the file system's journal.
files() {
  local number
  for ((number = $1; ; number++)); do
    echo "${number}" >"${DATA}/files/${number}"
    sync "${DATA}/files/${number}"
    echo "@file ${number}"
  done
}

# WHO FIRST LAST: how many of these numbers are not there any more.
missing() {
  local number count=0
  case "$1" in
    file)
      for ((number = $2; number <= $3; number++)); do
        [[ "$(cat "${DATA}/files/${number}" 2>/dev/null)" = "${number}" ]] || count=$((count + 1))
      done
      echo "${count}"
      ;;
    redis) echo $(($3 - $(ask_redis INCRBY counter 0))) ;;
    *) echo "SELECT $3 - $2 + 1 - count(*) FROM acked WHERE n BETWEEN $2 AND $3" | query "$1" ;;
  esac
}

"${@:-boot}"
