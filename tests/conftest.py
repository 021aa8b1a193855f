"""Settings for every test: the same generated examples each time, or what HYPOTHESIS_PROFILE names."""

from __future__ import annotations

import os
from pathlib import Path

# The suite runs one process per core; threads inside them would only compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A command that a test starts finds the package of this folder, as the test itself does.
_SRC = str(Path(__file__).parent.parent / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_SRC, os.environ.get("PYTHONPATH")]))

from hypothesis import HealthCheck, settings  # noqa: E402

_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("ci", max_examples=50, derandomize=True, database=None, print_blob=True, **_COMMON)
settings.register_profile("dev", max_examples=50, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
