"""What tests of several places share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
