"""Settings for generated tests: the same examples in every CI run, no deadline anywhere.

A deadline would fail a correct test on a busy machine; the hang guard of pytest-timeout is what bounds a test. A
failure in CI prints the line that reproduces it elsewhere. A pytest plug-in, loaded by name in pyproject.toml.
"""

import os

from hypothesis import settings

settings.register_profile("ours", deadline=None)
settings.register_profile("ours-in-ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ours-in-ci" if os.environ.get("CI") else "ours")
