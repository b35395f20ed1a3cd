"""What the image decides at run time, in the standard library of Python 3.9: Amazon Linux 2023's own interpreter.

The units call one command each (cli.py). Functions take what they need; only the commands know fixed paths.
"""
