#!/bin/sh
# Print what rpm calls the shared libraries of the tree, as libssl.so.3()(64bit). Runs inside the tree.
set -eu

find /usr/lib/*-linux-gnu /usr/lib64 -maxdepth 1 -name '*.so*' -type f | /usr/lib/rpm/elfdeps --provides | sort --unique
