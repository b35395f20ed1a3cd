#!/bin/sh
# Take out what only the building of the tree needed. Runs inside the tree, last. Arguments: files that left for a package.
set -eu

rm -f "$@"
# A script that called apt or dpkg would pass a rehearsal and fail on Amazon Linux. dpkg's database stays, for a look.
rm -f /usr/bin/dpkg /usr/bin/dpkg-* /usr/bin/apt /usr/bin/apt-* /usr/bin/createrepo_c /usr/bin/mergerepo_c /usr/bin/modifyrepo_c /usr/bin/sqliterepo_c
rm -rf /etc/apt /var/lib/apt /var/cache/apt /var/cache/debconf/*-old /var/lib/dpkg/*-old /usr/lib/apt
rm -rf /var/log/* /var/tmp/* /var/cache/dnf /var/cache/ldconfig/* /root/.gnupg
mkdir -p /var/log/journal

# Of an instance, not of an image.
rm -f /etc/ssh/ssh_host_* /etc/hostname /var/lib/dbus/machine-id /var/lib/systemd/random-seed
: >/etc/machine-id

# Everything that systemd would bring up to date at a first start is so: catalogs, hardware database, linker cache.
ldconfig
journalctl --update-catalog
touch --date=tomorrow /etc/.updated /var/.updated
