"""Examples as modules."""

import contextlib
import importlib
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextlib.contextmanager
def example_module(name):
    """An example, whose modules import one another by name from their folder."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module(name)
    sys.path.remove(str(EXAMPLES))
