"""The state of a fitted `CTRClassifier` or `RatingRegressor`, and the network built again
from it.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from .._registry import HOME, METHODS, NETWORK_CLASSES
from ..base import DESCRIBED, SLOTS, FixedArchitecture, fixed_methods, network_of
from ..engine._building import (
    build_network,
    narrowed,
    packs_members,
    realise,
    slot_context,
    table_context,
)
from ..engine._search_phase import check_slots
from ..engine._serving_form import serving_net
from ..engine._slots import entries_of
from ..estimators import CTRClassifier
from ..estimators._context import fitted_context
from ..estimators._fitted import Fitted, publish
from ..estimators._targets import ClassTarget, RatingTarget
from ..exceptions import ModelFileError
from ..nn import NUMERIC_EMBEDDINGS, BuildContext, Members, PackedPart, ReLUDropout
from ..preprocessing import FieldEncoder
from ..utils._state import snapshot
from ._allocation import BoundedAllocation
from ._encoder import number, take
from ._finite import watch
from ._frozen import check_frozen, frozen_values
from ._mixture import mixture_state, restored_mixture
from ._nodes import Weights, refuse
from ._packed import check_packed, name_prefix, packed_forms, packed_part
from ._probe import probe_module
from ._stored import (
    bytes_of_tables,
    check_codes,
    check_stored,
    described_storage,
    put_in_storage,
)

FREE_BYTES = 2**28  # what building may allocate beside the weights: indices of pairs, mainly
LARGEST_SIZE = 10**6  # of an integer parameter of a network, unless it has more weights
# Numbers in all vectors of a row, items included, unless the network has more weights.
LARGEST_ROW = 2**20
LARGEST_SCALE = 1e200  # of ratings: float32 logits times this are finite in float64
_COMMON = (
    *("encoder", "architecture", "search_history", "history", "n_iter", "weight_seen"),
    *("mixture", "module"),
)


@dataclass
class ModelState:
    """All that a network is built from.

    Parameters
    ----------
    network : Network
    methods : list of FixedArchitecture
        Together they have every slot of the architecture.
    context : BuildContext
    weights : dict of str to ndarray
        The module's ``state_dict``.
    dropout_seeds : dict of str to int
        By name of the layer, so that training goes on with the same random bits.
    packed : dict of str to str
        Names of the packed parts, and their forms; see `sklearn_autorec.nn.PackedPart`.
    packed_members : bool
        Whether one module holds all members of the context.
    stored : dict of str to dict
        Names of the tables in a storage of fewer bytes, and what makes them; see `_stored`.
    """

    network: object
    methods: list
    context: BuildContext
    weights: dict
    dropout_seeds: dict
    packed: dict
    packed_members: bool
    stored: dict


def _rebuild_module(state):
    """The module of a `ModelState`, with its weights; refuses one whose weights have other names,
    types or shapes.

    The one place where a network is built from a file: what ``fit`` does to a module after training
    has to be done here as well, between building and copying."""
    # Tables in a storage are made as they are trained, and replaced.
    n_bytes = sum(max(a.nbytes, 4 * a.size) for a in state.weights.values())
    n_bytes += bytes_of_tables(state.stored)
    architecture = _entries(state.methods)

    def parts(context, number=0):
        prefix = name_prefix(state.context.members, number)
        packed = {slot: name for slot in SLOTS if (name := f"{prefix}{slot}") in state.packed}
        own = {slot: entry for slot, entry in architecture.items() if slot not in packed}
        tables = table_context(state.methods, context) if "embedding" in packed else None
        return realise(state.methods, own, context) | {
            slot: packed_part(state, name, tables if slot == "embedding" else context)
            for slot, name in packed.items()
        }

    with BoundedAllocation(FREE_BYTES + 4 * n_bytes):
        module = build_network(
            state.network, state.methods, architecture, state.context, parts, state.packed_members
        )
    put_in_storage(module, state.stored)
    own = module.state_dict()
    if own.keys() != state.weights.keys():
        different = sorted(own.keys() ^ state.weights.keys())
        raise ModelFileError(
            f"The weights do not belong to {state.network!r}: {different[:5]} are on one side only."
        )
    for name, tensor in own.items():
        array = state.weights[name]
        wanted, got = (tensor.numpy().dtype, tuple(tensor.shape)), (array.dtype, array.shape)
        if wanted != got:
            refuse(
                f"The weight {name!r} of {state.network!r}",
                f"{wanted[0]} of shape {wanted[1]}",
                got,
            )
        with warnings.catch_warnings():  # torch warns of read-only arrays; this one is only read
            warnings.simplefilter("ignore", UserWarning)
            tensor.copy_(torch.from_numpy(array))
    for part in module.modules():
        if isinstance(part, PackedPart):
            part.check()
    check_codes(module)
    _set_dropout_seeds(module, state.dropout_seeds)
    return module.eval()


def _dropouts(module):
    return {name: m for name, m in module.named_modules() if isinstance(m, ReLUDropout)}


def _set_dropout_seeds(module, seeds):
    layers = _dropouts(module)
    if not isinstance(seeds, dict) or seeds.keys() != layers.keys():
        refuse("dropout_seeds", f"a dict of {sorted(layers)}", seeds)
    for name, seed in seeds.items():
        if type(seed) is not int or not 0 <= seed < 2**63:
            refuse(f"The seed of {name!r}", "an int of at least 0", seed)
        layers[name].seed = seed


def model_state(model):
    """Values from which `restore_model` makes the fitted attributes."""
    model = snapshot(model)
    encoder = model.encoder_
    if type(_inner(encoder)) is not FieldEncoder:
        raise TypeError(
            f"encoder_ is {encoder!r}; a model can be saved if it is a FieldEncoder, or a frozen "
            f"one."
        )
    net = model.net_
    state = {
        "encoder": encoder,
        "architecture": model._architecture,
        "search_history": model.search_history_,
        "history": model.history_,
        "n_iter": int(model.n_iter_),
        "weight_seen": list(model.__dict__.get("_weight_seen", (0.0, 0))),
        "mixture": mixture_state(model.__dict__.get("_mixture_")),
        "module": None,
    }
    if net is not None:
        weights = {
            name: t.detach().cpu().contiguous().numpy()
            for name, t in net.module_.state_dict().items()
        }
        state["module"] = {
            "weights": {name: Weights(array) for name, array in weights.items()},
            "sparse": any(getattr(m, "sparse", False) for m in net.module_.modules()),
            "dropout_seeds": {name: layer.seed for name, layer in _dropouts(net.module_).items()},
            "packed": packed_forms(net.module_),
        }
        stored = described_storage(net.module_)
        if stored:
            state["module"]["stored"] = stored
        if frozen := frozen_values(net.module_):
            state["module"]["frozen"] = frozen
        if isinstance(net.module_, Members):
            state["module"] |= {
                "members": net.module_.members,
                "packed_members": net.module_.packed > 1,
            }
    if isinstance(model, CTRClassifier):
        state["classes"] = model.classes_
        if model.__dict__.get("negative_sampling_rate_", 1.0) != 1.0:
            state["negative_rate"] = model.negative_sampling_rate_
        return state
    return {**state, "y_mean": model.y_mean_, "y_scale": model.y_scale_}


def _inner(encoder):
    return encoder.estimator if type(encoder) is FrozenEstimator else encoder


def restore_model(model, state, allow_nonfinite):
    """Set the fitted attributes of a new estimator from what a file says."""
    where = type(model).__name__
    classifier = isinstance(model, CTRClassifier)
    own = ("classes", "negative_rate") if classifier else ("y_mean", "y_scale")
    if isinstance(state, dict):  # not in files of version 0.1.0
        state = {"weight_seen": [0.0, 0], "mixture": None, **state}
        if classifier:  # not in files of models that have seen all negatives
            state = {"negative_rate": 1.0, **state}
    found = take(state, (*_COMMON, *own), where)
    encoder, architecture, search_history, history, n_iter, seen, mixture, module, *target = found
    if type(_inner(encoder)) is not FieldEncoder or not hasattr(_inner(encoder), "_derived"):
        refuse(f"{where}: encoder", "a fitted FieldEncoder", encoder)
    for name, records in (("search_history", search_history), ("history", history)):
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            refuse(f"{where}: {name}", "a list of dicts", records)
    if not isinstance(architecture, dict) or not architecture.keys() <= {*SLOTS, *DESCRIBED}:
        refuse(f"{where}: architecture", "a dict by slot", architecture)
    if type(n_iter) is not int or not 0 <= n_iter < 2**53:
        refuse(f"{where}: n_iter", "an int of at least 0", n_iter)
    if (
        not isinstance(seen, list)
        or len(seen) != 2
        or type(seen[1]) is not int
        or not 0 <= seen[1] < 2**53
    ):
        refuse(f"{where}: weight_seen", "a sum and a number of rows", seen)
    total = number(seen[0], f"{where}: weight_seen", 0.0, LARGEST_SCALE)
    if (total > 0) != (seen[1] > 0):
        refuse(f"{where}: weight_seen", "both zero or none", seen)
    if classifier:
        learned = ClassTarget(_check_classes(target[0]), _check_rate(target[1], len(target[0])))
    else:
        mean = number(target[0], "y_mean", -LARGEST_SCALE, LARGEST_SCALE)
        learned = RatingTarget(mean, number(target[1], "y_scale", 1e-300, LARGEST_SCALE))
    if (module is None) != (learned.n_outputs == 0):
        refuse(f"{where}: module", "None if there is a single class, and only then", module)
    if mixture is not None and (module is None or learned.n_outputs > 1):
        refuse(f"{where}: mixture", "None of a model of one class or of several", mixture)
    net, mixture = None, restored_mixture(mixture, encoder, learned.is_class)
    if module is not None:
        built = _rebuild_module(_state_of(learned, encoder, architecture, module, allow_nonfinite))
        probe_module(built, mixture, encoder, allow_nonfinite)
        net = serving_net(built, learned.loss())
        if not allow_nonfinite:
            watch(net.module_)
    publish(
        model,
        Fitted(
            learned,
            encoder,
            net,
            architecture,
            search_history,
            history,
            n_iter,
            weight_seen=(total, seen[1]),
            mixture=mixture,
            network=None if net is None else _network(architecture),
        ),
    )


def _check_classes(classes):
    good = isinstance(classes, np.ndarray) and classes.ndim == 1 and len(classes)
    if (
        not good
        or not np.array_equal(np.unique(classes), classes)
        or classes.dtype != np.unique(classes).dtype
    ):
        refuse("classes", "different labels in order", classes)
    return classes


def _check_rate(rate, n_classes):
    rate = number(rate, "negative_rate", 1e-300, 1.0)
    if rate != 1.0 and n_classes > 2:
        refuse("negative_rate", f"1.0 with {n_classes} classes", rate)
    return rate


def _state_of(learned, encoder, architecture, module, allow_nonfinite):
    # Of one member, as before there were several, files say nothing.
    single = {"members": 1, "packed_members": True}
    if isinstance(module, dict) and not single.keys() & module.keys():
        module = module | single
    if isinstance(module, dict):  # not in files whose tables are all float32
        module = {"stored": {}, "frozen": {}, **module}
    names = ("weights", "sparse", "dropout_seeds", "packed", *single, "stored", "frozen")
    found = take(module, names, "module")
    weights, sparse, seeds, packed, members, packed_members, stored, frozen = found
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(array, np.ndarray) for name, array in weights.items()
    ):
        refuse("weights", "a dict of arrays", weights)
    for name, array in weights.items():
        if array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
            raise ModelFileError(
                f"The weight {name!r} has NaN or infinite values; allow_nonfinite=True accepts "
                f"them."
            )
    if sparse not in (True, False):
        refuse("sparse", "True or False", sparse)
    network, methods = _network(architecture), _methods(architecture)
    check_slots(network, [m.method() for m in methods])
    n_weights = sum(a.size for a in weights.values())
    _check_sizes(network, n_weights)
    dim = architecture.get("embedding_dim")
    if type(dim) is not int or dim < 1:
        refuse("embedding_dim", "an int of at least 1", dim)
    if type(members) is not int or not 1 <= members <= max(n_weights, 1):
        refuse("members", "an int of at least 1 and no more than there are weights", members)
    if packed_members not in (True, False):
        refuse("packed_members", "True or False", packed_members)
    if packed_members and members > 1 and not packs_members(network, methods, architecture):
        refuse("packed_members", f"False for {network!r} with this architecture", packed_members)
    numeric = architecture.get("numeric_embedding", "linear")  # files of before there was a choice
    if numeric not in NUMERIC_EMBEDDINGS:
        refuse("numeric_embedding", f"one of {sorted(NUMERIC_EMBEDDINGS)}", numeric)
    context = fitted_context(learned, encoder, sparse, dim, members, numeric)
    context = replace(context, given_vectors=check_frozen(frozen, context))
    # Pruned and narrow tables hold no row of this width, so that nothing else bounds it.
    largest = max(n_weights, LARGEST_ROW) // (context.n_fields + sum(context.sequence_lengths))
    if dim > largest:
        refuse("embedding_dim", f"at most {largest} for these fields", dim)
    entries, stored = _entries(methods), check_stored(stored, weights)
    packed = check_packed(packed, methods, entries, members)
    # A packed part is checked as it is built.
    in_arrays = {name.rpartition(".")[2] for name in packed}
    unpacked = {slot: entry for slot, entry in entries.items() if slot not in in_arrays}
    for method in methods:
        if method.narrows:
            known = unpacked if len(method.slots) > 1 else entries
            method.check(entries_of(method, known), context)
    _, kept = narrowed(methods, entries, context)
    for method in methods:
        own = entries_of(method, unpacked)
        if own is not None and not method.narrows:
            method.check(own, slot_context(method, methods, kept))
    return ModelState(network, methods, context, weights, seeds, packed, packed_members, stored)


def _network(architecture):
    """The network of an architecture; only classes of this package are made of parameters in a
    file.
    """
    described = architecture.get("network")
    _check_class(described, "network", NETWORK_CLASSES)
    return network_of(described)


def _methods(architecture):
    """A `FixedArchitecture` for every method of the slots that were searched."""
    for slot in SLOTS:
        if slot in architecture:
            _check_class(architecture[slot], "method", METHODS)
    return fixed_methods(architecture)


def _entries(methods):
    """The architecture of fixed methods by slot."""
    return {slot: entry for method in methods for slot, entry in method.entries().items()}


def _check_class(described, kind, registry):
    name = described.get(kind) if isinstance(described, dict) else None
    cls = registry.find(name)
    if cls is None or cls is FixedArchitecture or cls not in registry.own().values():
        refuse(f"The {kind} of the architecture", f"a class of {HOME}", name)


def _check_sizes(network, n_weights):
    """Refuse sizes that cannot be those of so few weights: a list of 10**9 layers takes memory
    before any tensor does.
    """
    limit = max(n_weights, LARGEST_SIZE)
    for name, value in network.get_params(deep=False).items():
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int) and abs(size) > limit:
                refuse(f"{name} of {type(network).__name__}", f"at most {limit}", size)
