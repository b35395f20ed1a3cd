"""A machine that boots: its root file system, volumes and devices, and the interface behind which it runs."""
