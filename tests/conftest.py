"""Set-up of all tests: one thread per numeric library, and hypothesis without deadlines (CI machines are busy)."""

from __future__ import annotations

import os

from hypothesis import settings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
for variable in [name for name in os.environ if name.startswith("ATTACCA_") and name != "ATTACCA_PLUGIN_BUILD"]:
    del os.environ[variable]  # tests see no one's settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)  # a failure there is a failure here
settings.load_profile("ci" if os.environ.get("CI") else "here")
