"""What infrastructure/packer ships: files/install.tsv and the unit files, read in one place for every reader."""
