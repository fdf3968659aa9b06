"""The version that is running, as the distribution's metadata has it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("redis-shunt")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0+source"
