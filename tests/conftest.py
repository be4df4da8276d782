"""What all tests share. Modules under ``helpers`` are imported by name, in workers too."""

import functools
import gc
import os
import sys
from pathlib import Path

import pytest
import torch

HELPERS = Path(__file__).parent / "helpers"
sys.path.insert(0, str(HELPERS))
pytest.register_assert_rewrite(*(path.stem for path in HELPERS.glob("*.py")))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and thousands of tests stay until the end: the garbage collector, which would go
    through all of them again and again, waits until they are there and then leaves them out.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def data_home():
    """Folder of the public data sets; tests that need it skip where it is not there."""
    home = Path(
        os.environ.get("SKLEARN_AUTOREC_DATA") or Path(__file__).parents[2] / "shared" / "data"
    )
    if not (home / "frappe_x1" / "train.parquet").exists():
        pytest.skip(f"no data sets in {home}; set SKLEARN_AUTOREC_DATA")
    return home


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run side by side; each stays on its core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def functions_of_graphs():
    """torch parses the source of all its ONNX functions for every graph that it writes, which takes
    a third of the time: here once.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # without onnxscript, or where a release has it elsewhere
        yield
        return
    make = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", make)
        yield


@pytest.fixture
def splits(monkeypatch):
    """What each fit has split its rows into."""
    from sklearn_autorec.estimators import _split

    seen, split_rows = [], _split.split_rows

    def noted(*args):
        seen.append(split_rows(*args))
        return seen[-1]

    monkeypatch.setattr("sklearn_autorec.estimators._prepare.split_rows", noted)
    return seen
