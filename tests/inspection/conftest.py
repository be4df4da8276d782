import builtins

import pytest
from displays_cases import SizedClassifier
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.interaction import AutoFIS


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.close("all")


@pytest.fixture
def no_matplotlib(monkeypatch):
    """A function: from its call on, whoever imports matplotlib does not find it."""
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    return lambda: monkeypatch.setattr(builtins, "__import__", without)


@pytest.fixture(scope="session")
def data():
    X, y = mixed_clicks(1200, cardinality=5, pairs=1)
    X.columns = ["f0", "f1", "f2", "f3", "n0", "s0"]
    return X, y


@pytest.fixture(scope="session")
def searched(data):
    model = SizedClassifier(
        network="fm",
        search=AutoFIS(orders=(2, 3), threshold=0, max_interactions=4),
        max_epochs=2,
        search_epochs=3,
        random_state=0,
    )
    return model.fit(*data)


@pytest.fixture(scope="session")
def plain(data):
    """A model without a search."""
    return CTRClassifier(network="fm", max_epochs=1, random_state=0).fit(*data)
