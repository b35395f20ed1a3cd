"""Where the seconds go: boots, builds, backups and rehearsals on a local cloud, timed again and again.

Numbers to look at, never to fail on: nothing here asserts a time. Every value of every run is kept in build/bench/.
"""
