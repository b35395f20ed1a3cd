"""The KMS keys that account.apply makes, and what is signed with them."""
