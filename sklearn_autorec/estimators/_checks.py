"""What is refused before any work."""

import pickle

import numpy as np

from ..base import resolve_network
from ..engine._search_phase import check_methods, check_slots
from ..engine._serving_form import resolve_device
from ..nn import is_product
from ._monitoring import check_monitor
from ._together import check_distribution

__all__ = ["check_chunk", "check_components"]


def check_components(estimator):
    """Refuse wrong parameters, slots that do not fit, a device that is not there and what could not
    be saved, before any work.
    """
    network = resolve_network(estimator.network)
    methods = check_methods(estimator.search, estimator.joint)
    resolve_device(estimator.device)
    check_slots(network, methods)
    check_distribution(estimator, methods)
    if estimator.quantization_aware and estimator.storage is None:
        raise ValueError(
            "quantization_aware=True needs a storage of fewer bytes to be aware of, got "
            "storage=None; set storage='int8', for instance."
        )
    if is_product(estimator.storage):
        _check_product(estimator, methods)
    check_monitor(estimator.monitor)
    if estimator.loss is not None and any("loss" in method.slots for method in methods):
        raise ValueError(
            f"loss={estimator.loss!r:.200} and search={estimator.search!r:.200} both say what "
            f"trains: the search chooses among losses of its own. Set loss=None."
        )
    untrained = [method for method in methods if method.retrain == "none"]
    if untrained and estimator.members > 1:
        raise ValueError(
            f"members={estimator.members} needs members that are trained, "
            f"search={untrained[0]!r} has retrain='none', after which the one searched network "
            f"serves; choose members=1 or another retrain."
        )
    components = {"network": network, "search": methods, "encoder": estimator.encoder}
    for name, value in components.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever a user's object raises, the advice is the same
            raise ValueError(
                f"{name}={value!r} cannot be pickled ({error}); the fitted model could not be "
                f"saved."
            ) from error


def _check_product(estimator, methods):
    """Refuse what does not go with codes that are found after the training."""
    told = f"storage={estimator.storage!r:.200}"
    if estimator.quantization_aware:
        raise ValueError(
            f"quantization_aware=True cannot be combined with {told}: the codes of 'pq' are found "
            f"after the training; set quantization_aware=False."
        )
    for method in methods:
        if method.stores_numbers:
            raise ValueError(
                f"{told} cannot be combined with search={method!r:.200}: 'pq' stores parts of "
                f"vectors, and what is left of these tables is stored number by number. Choose "
                f"storage='int8', or a search of widths such as AutoDim()."
            )
        if "embedding" in method.slots and getattr(method, "budget", None) is not None:
            raise ValueError(
                f"{told} cannot be combined with budget={method.budget!r} of "
                f"{type(method).__name__}: what codes and centroids will take is not known before "
                f"the training. Choose storage='int8', or a search without a budget, such as "
                f"EqualSize(width=8)."
            )


def check_chunk(estimator, fitted, classes):
    """Refuse what ``partial_fit`` cannot do, before any work."""
    if estimator.distributed:
        raise ValueError(
            "distributed=True is not supported by partial_fit: chunks are trained in one process; "
            "set distributed=False, or call fit."
        )
    if getattr(estimator, "class_weight", None) == "balanced":
        raise ValueError(
            "class_weight='balanced' is not supported by partial_fit: a chunk does not know "
            "how often a class occurs in the others. Give the weights as a dict, for instance "
            "class_weight=dict(zip(classes, sklearn.utils.class_weight.compute_class_weight("
            "'balanced', classes=classes, y=y))) with the y of a large sample."
        )
    if fitted is None:
        _check_streams(estimator)
        check_components(estimator)
    elif classes is not None and not np.array_equal(
        np.unique(np.asarray(classes)), fitted.classes_
    ):
        raise ValueError(
            f"classes={np.asarray(classes).tolist()} is not the same as in the call before: "
            f"{fitted.classes_.tolist()}."
        )


def _check_streams(estimator):
    """Refuse searches with which ``partial_fit`` cannot begin."""
    methods = check_methods(estimator.search, estimator.joint)
    told = f"partial_fit cannot start with search={estimator.search!r}"
    if not all(method.streams for method in methods):
        raise ValueError(
            f"{told}: a search needs all its rows. Call fit first (partial_fit then goes on "
            f"training the network it found), or set search=None."
        )
    for method in methods:
        if method.narrows or not method.joint or "loss" in method.slots:
            raise ValueError(
                f"{told}: {method!r} declares streams=True, which takes the default search, and "
                f"neither dropped fields nor the loss slot."
            )
    if len(methods) > 1 and not estimator.joint:
        raise ValueError(
            f"{told} and joint=False: in a stream several methods search at once; set joint=True."
        )
    if methods and estimator.members > 1:
        raise ValueError(
            f"{told} and members={estimator.members}: the one searched network serves; choose "
            f"members=1."
        )
