"""The estimators of `known_curves` must be importable in the workers, which get this process's
path.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
