import pytest
from small_tables import mixed_clicks

from sklearn_autorec.engine import _search_phase


@pytest.fixture(scope="module")
def mixed():
    """Columns of all kinds, one constant and one with gaps."""
    X, y = mixed_clicks(800, n_fields=3, cardinality=9, pairs=1)
    X["same"] = "x"
    X.loc[::7, "f0"] = None
    return X, y


@pytest.fixture
def interrupted_searches(monkeypatch):
    """Ctrl-C comes at the end of the second epoch of every search."""

    class Problem(_search_phase.SearchProblem):
        def __init__(self, *args):
            super().__init__(*args)

            def on_epoch(epoch, record):
                if epoch:
                    raise KeyboardInterrupt

            self.on_epoch = on_epoch

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
