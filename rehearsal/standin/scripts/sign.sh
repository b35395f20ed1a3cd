#!/bin/sh
# Sign the RPMs below /run/work in the directories given, with a key made now; its public half becomes signer.asc there.
# Runs inside the tree. The private half is gone with /run.
set -eu

signer="Amazon Linux stand-in of this machine"
export GNUPGHOME=/run/gnupg
mkdir -m 0700 "$GNUPGHOME"
cd /run/work
gpg --batch --quiet --passphrase '' --quick-generate-key "$signer" ed25519 sign never
gpg --batch --armor --export >signer.asc
find "$@" -name '*.rpm' -print0 | xargs --null --max-procs="$(nproc)" --max-args=1 rpmsign --define "_gpg_name $signer" --addsign
gpgconf --kill all
