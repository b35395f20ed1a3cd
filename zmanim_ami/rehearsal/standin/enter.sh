#!/bin/sh
# Run a command inside a tree, with mounts that nobody else sees and that end with it.
#
# Input: enter.sh ROOT COMMAND [ARGUMENT …], with BINDS in the environment: lines of "HOST-PATH<tab>PATH-IN-ROOT".
# To be started by `unshare --mount --pid --fork` (inside.py). It may run twice, and side by side.
set -eu
root=$1
shift

mount --bind "$root" "$root" # rpm wants its root to be a mount point
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"

# The tree's own resolv.conf is a link into /run, as systemd-resolved wants it.
mkdir -p "$root/run/systemd/resolve"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf"

printf '%s' "${BINDS:-}" | while IFS="$(printf '\t')" read -r from to; do
  mkdir -p "$root$to"
  mount --bind "$from" "$root$to"
done
unset BINDS
exec chroot "$root" "$@"
