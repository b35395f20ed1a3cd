"""A whole release, rehearsed on this machine: a local cloud, a stand-in for Amazon Linux, and the production tasks."""
