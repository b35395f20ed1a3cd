"""What an account needs before it can build, verify and run images: network, roles, buckets, keys, alarms."""
