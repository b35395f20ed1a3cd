#!/bin/sh
# Make repositories of the directories given below /run/work: packages and metadata signed with a key made now, whose
# public half becomes signer.asc there. The newest release (latest/amazonlinux) has the advisories of updateinfo.xml alone. Runs inside the tree. The private half is gone with /run.
set -eu

signer="Amazon Linux stand-in of this machine"
export GNUPGHOME=/run/gnupg
mkdir -m 0700 "$GNUPGHOME"
cd /run/work
gpg --batch --quiet --passphrase '' --quick-generate-key "$signer" ed25519 sign never
gpg --batch --armor --export >signer.asc
find "$@" -name '*.rpm' -print0 | xargs --null --max-procs="$(nproc)" --max-args=1 rpmsign --define "_gpg_name $signer" --addsign
for repository in "$@"; do
  # Uncompressed packages of known content: what createrepo_c can leave out costs time alone.
  createrepo_c --quiet --general-compress-type=gz --no-database "$repository"
  gpg --batch --quiet --armor --detach-sign "$repository/repodata/repomd.xml"
done
mkdir -p latest/amazonlinux
createrepo_c --quiet --general-compress-type=gz --no-database latest/amazonlinux
modifyrepo_c --mdtype=updateinfo --compress-type=gz updateinfo.xml latest/amazonlinux/repodata >/dev/null
gpgconf --kill all
