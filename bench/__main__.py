"""`python -m bench`: the side-by-side run, with its tables written into bench/README.md. Options are passed on."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# The programs of this room import each other by their bare names.
from side_by_side import main

main(["--update-readme", *sys.argv[1:]])
