"""Automated deep recommender models for tables of categorical fields, behind scikit-learn's
interfaces.
"""

import importlib
from typing import TYPE_CHECKING

from ._registry import METHODS, NETWORK_CLASSES, NETWORKS
from ._version import __version__

if TYPE_CHECKING:
    from .estimators import CTRClassifier, RatingRegressor
    from .linear_model import CrossedLinearClassifier, CrossedLinearRegressor

_SUBPACKAGES = {
    "base",
    "datasets",
    "embedding",
    "feature_crossing",
    "feature_selection",
    "inspection",
    "interaction",
    "linear_model",
    "losses",
    "metrics",
    "model_selection",
    "networks",
    "preprocessing",
    "serving",
    "transfer",
}

_ESTIMATORS = {
    "CTRClassifier": "estimators",
    "CrossedLinearClassifier": "linear_model",
    "CrossedLinearRegressor": "linear_model",
    "RatingRegressor": "estimators",
}

__all__ = [
    "CTRClassifier",
    "CrossedLinearClassifier",
    "CrossedLinearRegressor",
    "RatingRegressor",
    "__version__",
]


def _load_networks():
    importlib.import_module(".networks", __name__)


def _load_methods():
    for part in ("embedding", "feature_selection", "interaction", "losses", "transfer"):
        importlib.import_module(f".{part}", __name__)


# Names are looked up below the modules that define the classes; only the roof sees both.
NETWORKS.add_source(_load_networks)
NETWORK_CLASSES.add_source(_load_networks)
METHODS.add_source(_load_methods)


def __getattr__(name):
    """Estimators and subpackages on first use: torch takes seconds to load, and transformers and
    searches need none of it.
    """
    if name in _ESTIMATORS:
        return getattr(importlib.import_module(f".{_ESTIMATORS[name]}", __name__), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
