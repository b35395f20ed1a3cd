"""The checks of a merge, one module each: `check(tree) -> list[Finding]`. checks.py lists them, noxfile.py runs them.

finding.py and units/unit_files.py are what they share.
"""
