"""Whole disk images, such as Amazon Linux's for KVM, as base images: booted by their own boot loader and kernel.

header says whether a qcow2 file may be opened at all, layout what is on it; make puts the local cloud's own files on a
copy, by inside, which runs in mount and process namespaces of its own.
"""
