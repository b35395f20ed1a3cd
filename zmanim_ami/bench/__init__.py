"""Where the seconds go: boots, bakes and rehearsals on a local cloud, timed over and over.

Numbers to look at, never to fail on: nothing here asserts a time. Every value of every run is kept in build/bench/.
"""
