#!/bin/sh
# Run a command where a partition of a disk image is mounted, in mounted/; make.py runs this in namespaces of its own.
#
# Input: the disk, as QEMU's block node "disk" in JSON; mount's options, with the partition's place; the command.
# Output: what the command writes. Works in the current directory, which is empty but for what the command needs.
# Idempotent: no.
set -o errexit -o nounset

main() {
  disk=$1
  options=$2
  shift 2
  trap 'exit 130' INT TERM
  touch raw
  mkdir mounted
  qemu-storage-daemon --blockdev "${disk}" --pidfile started \
    --export "type=fuse,id=raw,node-name=disk,mountpoint=${PWD}/raw,writable=on" &
  daemon=$!
  while [ ! -e started ]; do
    kill -0 "${daemon}"
    sleep 0.05
  done
  mount -o "${options}" raw mounted
  "$@"
  # Asks the file system whether all was written: what this host's disk had no room for fails here.
  sync --file-system mounted
  umount mounted
  kill "${daemon}"
  wait "${daemon}"
}

main "$@"
