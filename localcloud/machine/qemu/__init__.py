"""Machines with a kernel of their own, by QEMU: real block devices, udev and shutdown, where nspawn.py shares a kernel.

acceleration says whether the host's KVM may carry them, base_disk makes the disk of a base image, disks stacks the
instances' and images' disks on it; drives puts each behind a write_cache, a process that a power cut kills with QEMU.
command says how QEMU is called; monitor (QMP) and agent speak with one that runs, each over a channel; plugs has
volumes come and go; machine is the Machine. guest/ is what lies on the disk beside the image's own files.
"""
