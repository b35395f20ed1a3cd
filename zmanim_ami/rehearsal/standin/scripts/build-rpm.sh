#!/bin/sh
# Build the RPM of /run/work/specs/$1.spec, where $1 is REPOSITORY/NAME, into /run/work/REPOSITORY. Runs inside the tree.
set -eu

exec rpmbuild -bb --quiet --define "_topdir /run/work/build/$1" --define "_rpmdir /run/work/$(dirname "$1")" \
  --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
  --define '_tmppath /run/work/build' --define '_buildhost stand-in' "/run/work/specs/$1.spec"
