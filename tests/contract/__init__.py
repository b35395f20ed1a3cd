"""The local cloud's contract: what AWS documents of each operation, a row each, asked of the cloud in one process.

`./nox -s contract` asks all of it; rows are data (areas/), stage.py makes what they are about, page.py their score.
"""
