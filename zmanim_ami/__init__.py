"""The pipeline of zmanim's AMI: its tasks, the production path, rehearsals, the gate, benchmarks and the toolchain."""
