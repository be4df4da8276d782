"""Models of other sizes, cut from what a search has left; nothing is trained."""

import copy

from sklearn.utils.validation import check_is_fitted

from ..base import fixed_methods, network_of
from ..engine._building import build_network, narrowed, slot_context
from ..engine._serving_form import device_of, serving_net, whole_architecture
from ..nn import in_float32, store_tables
from ._context import counts_by_column, fitted_context
from ._fitted import Fitted, publish
from ._targets import target_of

__all__ = ["can_specialize", "pickled", "specialized"]


def can_specialize(model):
    """Whether a fit has left something to cut models from; says why not by an error."""
    if model.__dict__.get("_kept_"):
        return True
    raise AttributeError(
        f"{type(model).__name__} has no specialize: it needs a fit whose search trains a supernet "
        f"(search=RULE(), for instance), and pickles and copies do not hold that, unless the "
        f"search has pickle_supernet=True."
    )


def specialized(model, budget):
    """A fitted estimator like another one, but for the size of one part.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        A snapshot, which stays as it is.
    budget : float or int

    Returns
    -------
    estimator
    """
    check_is_fitted(model, "encoder_")
    ((slot, kept),) = model._kept_.items()
    served = model.net_.module_
    architecture = whole_architecture(model._architecture, served)
    methods = fixed_methods(architecture)
    context = _context(model, served)
    owner = next(m for m in methods if slot in m.slots)
    own = slot_context(owner, methods, narrowed(methods, architecture, context)[1])
    entry, weights = owner.method().specialize(kept, budget, own)
    described = {name: architecture[slot][name] for name in ("method", "params")}
    described["params"] = {**described["params"], "budget": budget}
    architecture[slot] = {**described, **entry}
    network = network_of(architecture["network"])
    module = build_network(network, fixed_methods(architecture), architecture, context)
    whole = in_float32(copy.deepcopy(served)).state_dict()
    rest = {n: t for n, t in whole.items() if not n.startswith(f"{slot}.")}
    weights = {f"{slot}.{name}": t for name, t in weights.items()}
    module.load_state_dict({**rest, **weights})
    module = module.to(device_of(model.net_)).eval()
    twin = object.__new__(type(model))
    twin.__dict__ = {**vars(model), "search": _with_budget(model.search, slot, budget)}
    net = serving_net(module, model.net_.criterion_)
    store_tables(net.module_, model.storage, counts_by_column(model.encoder_))
    publish(
        twin,
        Fitted(
            target_of(model),
            model.encoder_,
            net,
            architecture,
            model.search_history_,
            model.history_,
            model.n_iter_,
            weight_seen=model._weight_seen,
            mixture=model._mixture_,
            kept=model._kept_,
            network=network,
            stopped=vars(model).get("stopped_"),
        ),
    )
    return twin


def pickled(kept, search):
    """What pickles and copies hold of it: that of methods with ``pickle_supernet``."""
    methods = search if isinstance(search, list | tuple) else [search]
    slots = {slot for m in methods if getattr(m, "pickle_supernet", False) for slot in m.slots}
    return {slot: own for slot, own in kept.items() if slot in slots}


def _context(model, module):
    architecture = model._architecture
    return fitted_context(
        target_of(model),
        model.encoder_,
        any(getattr(m, "sparse", False) for m in module.modules()),
        architecture["embedding_dim"],
        1,
        architecture["numeric_embedding"],
        model.storage,
    )


def _with_budget(search, slot, budget):
    """The parameter ``search`` with another budget of the method of a slot."""
    if isinstance(search, list | tuple):
        return type(search)(_with_budget(method, slot, budget) for method in search)
    if slot not in search.slots:
        return search
    other = copy.copy(search)
    return other.set_params(budget=budget)
