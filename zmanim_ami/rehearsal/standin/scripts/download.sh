#!/bin/sh
# Download Debian packages to /run/downloads and print apt's lines about them: 'ADDRESS' FILE SIZE SHA256:DIGEST.
# Arguments: their names. Runs inside the tree; again is quick, for apt only compares digests of what is there.
set -eu

# The names first, in an empty directory: apt says no line of a file that it finds.
cd /tmp
apt-get -qq --print-uris download "$@"
cd /run/downloads
exec apt-get -qq download "$@"
