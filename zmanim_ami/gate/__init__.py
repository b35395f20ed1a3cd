"""The checks of a merge, one module each: `check(tree) -> list[Finding]`. checks.py lists them, noxfile.py runs them.

finding.py is what they share; what ships is read by zmanim_ami/pipeline/shipped/.
"""
