import builtins

import pytest


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
