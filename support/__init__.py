"""What every part needs and no part owns: faults, child processes, digests, the cache, progress."""
