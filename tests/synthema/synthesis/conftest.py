"""The helpers beside the tests are modules of no package; lines between parties come from the tests of `smpc`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "smpc"))
