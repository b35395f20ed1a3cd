"""`python -m tests.contract`: write docs/contract.md."""

from tests.contract.page import write

write()
