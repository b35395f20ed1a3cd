"""What every part needs and no part owns: errors, child processes, files, git, digests, the cache, progress."""
