"""What tests of several places share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bucket_name(kind: str, environment: str = "prod") -> str:
    """Return what account.apply calls a bucket in an empty account: moto's, and the local cloud's, is the same."""
    return f"zmanim-{kind}-{environment}-123456789012-eu-west-1-an"
