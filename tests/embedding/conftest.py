import pytest
from small_tables import mixed_clicks


@pytest.fixture(scope="module")
def mixed():
    """Columns of all kinds, one constant and one with gaps."""
    X, y = mixed_clicks(800, n_fields=3, cardinality=9, pairs=1)
    X["same"] = "x"
    X.loc[::7, "f0"] = None
    return X, y
