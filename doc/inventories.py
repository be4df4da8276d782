"""Inventories of the projects that our pages link to, written without a network.

Intersphinx usually fetches ``objects.inv`` from each project's site. The pages here must build
where there is no network, so the inventories are made from the installed packages: their public
names, with the addresses at which these projects have documented them for years.
"""

import inspect
import zlib
from pathlib import Path

import numpy
import pandas
import sklearn
import torch
from sklearn.utils.discovery import all_displays, all_estimators, all_functions

HEAD = (
    "# Sphinx inventory version 2\n# Project: {}\n# Version: {}\n"
    "# The remainder of this file is compressed using zlib.\n"
)


def sklearn_names():
    """Public classes and functions, by the module in which scikit-learn documents them."""
    listed = [*all_estimators(), *all_displays(), *all_functions()]
    found = {}
    for name, thing in listed:
        module = ".".join(part for part in thing.__module__.split(".") if not part.startswith("_"))
        found[f"{module}.{name}"] = thing
    for name in ("BaseEstimator", "ClassifierMixin", "RegressorMixin", "TransformerMixin"):
        found[f"sklearn.base.{name}"] = getattr(sklearn.base, name)
    return {name: (thing, f"modules/generated/{name}.html") for name, thing in found.items()}


def numpy_names():
    """What docstrings name of numpy."""
    names = {"ndarray": numpy.ndarray, "random.RandomState": numpy.random.RandomState}
    address = {"random.RandomState": "reference/random/legacy.html"}
    return {
        f"numpy.{name}": (thing, address.get(name, f"reference/generated/numpy.{name}.html"))
        for name, thing in names.items()
    }


def pandas_names():
    """What docstrings name of pandas."""
    names = ("DataFrame", "Series")
    return {
        f"pandas.{name}": (getattr(pandas, name), f"reference/api/pandas.{name}.html")
        for name in names
    }


def torch_names():
    """What docstrings name of torch."""
    names = {"Tensor": ("tensors.html", torch.Tensor)}
    for name in ("nn.Module", "optim.Optimizer", "nn.Embedding", "nn.EmbeddingBag"):
        thing = torch
        for part in name.split("."):
            thing = getattr(thing, part)
        page = "optim.html" if name == "optim.Optimizer" else f"generated/torch.{name}.html"
        names[name] = (page, thing)
    return {f"torch.{name}": (thing, page) for name, (page, thing) in names.items()}


PROJECTS = {
    "sklearn": ("https://scikit-learn.org/stable/", sklearn.__version__, sklearn_names),
    "numpy": ("https://numpy.org/doc/stable/", numpy.__version__, numpy_names),
    "pandas": ("https://pandas.pydata.org/docs/", pandas.__version__, pandas_names),
    "torch": ("https://docs.pytorch.org/docs/stable/", torch.__version__, torch_names),
}


def write_inventories(folder):
    """Write an inventory per project.

    Parameters
    ----------
    folder : path
        Is made where it is not there.

    Returns
    -------
    dict of str to (str, str)
        What ``intersphinx_mapping`` takes: the project's address and the path of its inventory.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, (address, version, names) in PROJECTS.items():
        lines = "".join(
            f"{name} py:{'class' if inspect.isclass(thing) else 'function'} 1 {page}#$ -\n"
            for name, (thing, page) in sorted(names().items())
        )
        path = folder / f"{project}.inv"
        head = HEAD.format(project, version).encode()
        path.write_bytes(head + zlib.compress(lines.encode()))
        mapping[project] = (address, str(path))
    return mapping
