#!/bin/sh
# Make Debian's units, users and defaults those of Amazon Linux 2023. Runs inside the tree, once, after rootfs/ was copied.
set -eu

# Unit names: sshd (rootfs/ brings it) and chronyd. Nothing of System V's is read.
rm -f /usr/lib/systemd/system/ssh.service /usr/lib/systemd/system/ssh@.service /usr/lib/systemd/system/ssh.socket
mv /usr/lib/systemd/system/chrony.service /usr/lib/systemd/system/chronyd.service
sed -i '/^Alias=/d' /usr/lib/systemd/system/chronyd.service
rm -f /etc/init.d/* /etc/rc?.d/*
mkdir -p /usr/libexec/openssh
ln -s ../../lib/openssh/sftp-server /usr/libexec/openssh/sftp-server

# As cloud-init's own template has it for Amazon Linux: this stage comes after the system bus, through which hostnamectl works.
sed -i -e '/^DefaultDependencies=no/d' -e '/^Before=sysinit.target/d' -e 's/^After=networking.service/After=dbus.socket/' \
  /usr/lib/systemd/system/cloud-init-network.service
# Opens port-like sockets that Amazon Linux's systemd 252 does not have.
mkdir -p /etc/systemd/system-generators
ln -s /dev/null /etc/systemd/system-generators/systemd-ssh-generator

# Enabled is what the presets say (usr/lib/systemd/system-preset), which in Amazon Linux end in "disable *".
rm -rf /etc/systemd/system/*.wants /etc/systemd/system/*.service
systemctl --quiet preset-all --preset-mode=full
systemctl --quiet set-default multi-user.target

# Debian's tape has the number of Amazon Linux's postgres.
groupdel tape
groupadd --system wheel
# First by name: the last match of sudoers wins, and cloud-init's own file has to have that.
echo '%wheel ALL=(ALL) ALL' >/etc/sudoers.d/00-wheel
chmod 0440 /etc/sudoers.d/00-wheel
sed -i 's,^SHELL=.*,SHELL=/bin/bash,' /etc/default/useradd
localedef --inputfile=en_US --charmap=UTF-8 en_US.UTF-8
