"""Disks as files: partition tables, and qcow2 images that stand for a maker's."""
