"""The bill of materials of an image (SBOM): made of its inventory, validated, and kept beside its report."""
