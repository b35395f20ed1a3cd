#!/bin/sh
# Download the upstream archives of Debian source packages to /run/sources; one that can't be had is only named.
# Arguments: the packages, as NAME or NAME/SUITE. Input: apt's sources on stdin. Runs inside the tree.
set -eu

# Lists of their own: an update for other sources would throw the tree's away.
mkdir -p /run/lists/partial
cat >/run/sources.list
apt() {
  apt-get -qq -o Dir::State::lists=/run/lists -o Dir::Etc::sourcelist=/run/sources.list -o Dir::Etc::sourceparts=/dev/null "$@"
}

cd /run/sources
apt update
for package in "$@"; do
  apt --download-only --tar-only source "$package" || echo "no source of $package" >&2
done
