"""The checks of a merge, one module each; noxfile.py runs them."""
