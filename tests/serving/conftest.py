import pytest
from small_tables import mixed_clicks


@pytest.fixture(scope="session")
def clicks_with_gaps():
    """A function: clicks on columns of all kinds, f0 of whole numbers, f1 and x0 with gaps."""

    def table(n, **options):
        X, y = mixed_clicks(n, cardinality=8, **options)
        X["f0"] = X["f0"].str[1:].astype(int)
        X.loc[X.index[::7], ["f1", "x0"]] = None
        return X, y

    return table
