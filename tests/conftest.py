"""How hard hypothesis tries: a few examples at a desk, where the same test runs again soon; its own default in CI.

And interrupts, which every test may send.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("desk", max_examples=15, deadline=None)
settings.register_profile("full", max_examples=100, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("full" if os.environ.get("CI") else "desk"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started by `... &` in a script: what is started from here would ignore interrupts too, and no shell can trap what
    # it was told to ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
