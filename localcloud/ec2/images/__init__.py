"""What is asked about images, and what they are made of: beside the operations that make them (amis.py)."""
