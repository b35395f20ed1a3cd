"""Clients that the project has not written, against the local cloud: `./nox -s clients` (their own environment).

Ansible's amazon.aws takes an instance and a volume through their life in a cloud with booted machines; moto's own tests
are run in server mode against the cloud of server.py, in which machines are only records.
"""
