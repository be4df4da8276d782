"""Networks on the inputs that an architecture keeps: what is built, and which weights of the whole network they take over."""

import dataclasses

import torch

from .base import holds_members
from .nn import FieldRows, Inputs, MemberLosses, Members, check_parts, pair_index

__all__ = ["build_network", "carry", "narrowed", "realise", "realise_loss", "select"]


def narrowed(methods, architecture, context):
    """What the known architecture keeps of the inputs, and the context of that.

    Parameters
    ----------
    methods : list of SearchMethod
    architecture : dict of slot to dict
    context : BuildContext
        Of the whole table.

    Returns
    -------
    selection : sklearn_autorec.nn.InputSelection or None
    context : BuildContext
    """
    for method in methods:
        if method.narrows and method.slot in architecture:
            selection = method.selection(architecture[method.slot], context)
            return (None, context) if selection is None else (selection, selection.narrow(context))
    return None, context


def select(data, selection):
    """Encoded tensors of what is kept."""
    if selection is None:
        return data
    kept = selection.to(data.ids.device)(Inputs(data.ids, data.numeric, data.sequences))
    return dataclasses.replace(data, ids=kept.ids, numeric=kept.numeric, sequences=kept.sequences)


def realise(methods, architecture, context):
    """Concrete modules of the network's slots whose architecture is known, on a context that is narrowed already."""
    parts = {m.slot: m.realise(architecture[m.slot], context) for m in _in_network(methods, architecture)}
    return {slot: part for slot, part in parts.items() if part is not None}


def _in_network(methods, architecture):
    """The methods whose architecture is known and a part of the network; a loss is none."""
    return [m for m in methods if m.slot in architecture and m.slot != "loss"]


def realise_loss(methods, architecture, context):
    """The concrete module of the loss slot, or None where the estimator's own loss trains.

    Parameters
    ----------
    methods : list of SearchMethod
    architecture : dict of slot to dict
    context : BuildContext
        Of the whole table. Of several members each has a loss of its own, unless the method declares that it holds them all.

    Returns
    -------
    nn.Module or None
    """
    for method in methods:
        if method.slot == "loss" and "loss" in architecture:
            _, kept = narrowed(methods, architecture, context)
            if kept.members == 1 or holds_members(method, "realise"):
                return method.realise(architecture["loss"], kept)
            single = dataclasses.replace(kept, members=1)
            losses = [method.realise(architecture["loss"], single) for _ in range(kept.members)]
            return None if losses[0] is None else MemberLosses(losses)
    return None


def packs_members(network, methods, architecture):
    """Whether the network and all parts of an architecture declare that one module of each holds all members."""
    return holds_members(network, "build") and all(
        holds_members(m, "realise") for m in _in_network(methods, architecture)
    )


def build_network(network, methods, architecture, context, parts=None, packed=None):
    """The network of an architecture on raw encoded batches; the one place where fit and files build it.

    Parameters
    ----------
    network : Network
    methods : list of SearchMethod
    architecture : dict of slot to dict
    context : BuildContext
        Of the whole table.
    parts : callable (BuildContext, int) -> dict of str to nn.Module, or None
        Makes the parts on the narrowed context, of the module of that number; None realises the architecture.
    packed : bool or None, default=None
        Whether one module holds all members of the context; None does so where `packs_members`.

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If fields are dropped and the module does not select its inputs.
    """
    selection, kept = narrowed(methods, architecture, context)

    def build(context, number=0):
        made = realise(methods, architecture, context) if parts is None else parts(context, number)
        return _on_selection(network, context, made, selection)

    if context.members == 1:
        return build(kept)
    if packs_members(network, methods, architecture) if packed is None else packed:
        return Members([build(kept)], context.members)
    # They draw their initial weights from one generator, one after the other.
    single = dataclasses.replace(kept, members=1)
    return Members([build(single, number) for number in range(context.members)], 1)


def _on_selection(network, context, made, selection):
    module = network.build(context, made if selection is None else {**made, "selection": selection})
    check_parts(network, module, made)
    if selection is None:
        return module
    if getattr(module, "selection", None) is not selection:
        raise TypeError(
            f"network={network!r} cannot drop fields: its module must be a sklearn_autorec.nn.FieldNetwork, got "
            f"{type(module).__name__}."
        )
    return module


def carry(state, network, selection, context, module):
    """Weights of a network on the whole table as those of the same network on what is kept.

    Tables keep the rows of kept values. Other weights keep the elements of kept fields and of pairs of them: how many
    elements of an axis belong to each is read off networks on few small fields. A weight that this does not explain is
    left out.

    Parameters
    ----------
    state : dict of str to Tensor
    network : Network
    selection : InputSelection
    context : BuildContext
        Of the whole table.
    module : nn.Module
        The network on what is kept.

    Returns
    -------
    dict of str to Tensor
    """
    own = module.state_dict()
    rows = torch.from_numpy(selection.table_rows(context))
    numbers = torch.tensor(selection.numbers, dtype=torch.int64)
    by_table = {}
    for name, m in module.named_modules():
        if isinstance(m, FieldRows):
            by_table |= {f"{name}.weight": (0, rows)}
            by_table |= {f"{name}.numeric_{what}": (1, numbers) for what in ("weight", "frequency")}
    carried, shapes = {}, None
    for name, t in state.items():
        if name not in own:
            continue
        if name in by_table:
            axis, kept = by_table[name]
            t = t.index_select(axis, kept.to(t.device))
        elif t.shape != own[name].shape and t.ndim == own[name].ndim:
            shapes = _shapes(network, context) if shapes is None else shapes
            for axis in range(t.ndim):
                sizes = [network[name][axis] for network in shapes if len(network.get(name, ())) == t.ndim]
                if t.shape[axis] == own[name].shape[axis] or len(sizes) < len(shapes):
                    continue
                kept = _kept(sizes, selection.fields, context.n_fields, context.embedding_dim)
                if len(kept) == own[name].shape[axis] and bool((kept < t.shape[axis]).all()):
                    t = t.index_select(axis, kept.to(t.device))
        if t.shape == own[name].shape:
            carried[name] = t
    return carried


def _shapes(network, context):
    """Shapes by name of the network on three, four and five small fields, then on three and four of twice the width."""
    shapes = []
    for n, width in ((3, 1), (4, 1), (5, 1), (3, 2), (4, 2)):
        small = dataclasses.replace(
            context,
            field_names=tuple(map(str, range(n))),
            n_ids=(2,) * n,
            n_numeric=0,
            sequences=(),
            counts=(),
            embedding_dim=width * context.embedding_dim,
            generator=torch.Generator(),
        )
        shapes.append({name: tuple(t.shape) for name, t in network.build(small, {}).state_dict().items()})
    return shapes


def _kept(sizes, fields, n_fields, d):
    """Kept elements of an axis that has these sizes in `_shapes`.

    Such an axis holds flattened embeddings (as often as its size grows with their width), then what there is of every field,
    of every pair of fields, and what does not belong to fields.
    """
    per_pair = sizes[2] - 2 * sizes[1] + sizes[0]
    per_field = sizes[1] - sizes[0] - 3 * per_pair
    others = sizes[0] - 3 * per_field - 3 * per_pair
    times = (sizes[4] - sizes[3] - (sizes[1] - sizes[0])) // d
    kept = torch.tensor(fields)
    pairs = torch.isin(pair_index(n_fields), kept).all(0).nonzero()[:, 0]
    parts = [(kept, n_fields, d)] * times + [(kept, n_fields, per_field - times * d)]
    parts += [(pairs, n_fields * (n_fields - 1) // 2, per_pair), (torch.arange(max(others, 0)), others, 1)]
    elements, start = [], 0
    for numbers, n, width in parts:
        elements.append(start + (numbers.unsqueeze(1) * width + torch.arange(max(width, 0))).flatten())
        start += n * width
    return torch.cat(elements)
