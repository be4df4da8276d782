"""Networks on the inputs that an architecture keeps: what is built, and which weights of the whole
network they take over.
"""

import dataclasses

import torch

from ..base import holds_members
from ..nn import (
    FieldNetwork,
    Inputs,
    InputSelection,
    MemberLosses,
    Members,
    NumberVectors,
    check_parts,
    pair_index,
)
from ..nn._axes import tuple_order
from ._slots import by_slot, entries_of, stands_in

__all__ = [
    "build_module",
    "build_network",
    "carry",
    "check_field_axes",
    "narrowed",
    "realise",
    "realise_loss",
    "select",
    "slot_context",
    "table_context",
]


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
        if method.narrows and stands_in(method, architecture):
            selection = method.selection(entries_of(method, architecture), context)
            return (None, context) if selection is None else (selection, selection.narrow(context))
    return None, context


def select(data, selection):
    """Encoded tensors of what is kept."""
    if selection is None:
        return data
    kept = selection.to(data.ids.device)(Inputs(data.ids, data.numeric, data.sequences))
    return dataclasses.replace(data, ids=kept.ids, numeric=kept.numeric, sequences=kept.sequences)


def select_stream(stream, selection):
    """A stream of what is kept; None of none."""
    if stream is None or selection is None:
        return stream
    return stream.mapped(lambda data: select(data, selection))


def table_context(methods, context):
    """The context for which the part of the embedding slot is made.

    It has no vectors, which the network projects. Beside a method of the numeric slot, whether it
    has searched or not, it has the categorical and the list fields alone.

    Raises
    ------
    ValueError
        If nothing is left for the part.
    """
    context = context.without_vectors()
    if context.n_fields == 0:
        raise ValueError(
            f"search={methods!r}: the method of the embedding slot has nothing to search, since "
            f"all fields are vectors, which are projected; leave it out."
        )
    if not any("numeric" in m.slots for m in methods):
        return context
    if context.n_fields == context.n_numeric:
        raise ValueError(
            f"search={methods!r}: the method of the embedding slot has nothing to search, since "
            "all fields are numbers, which the method of the numeric slot embeds; leave it out."
        )
    return context.without_numbers()


def slot_context(method, methods, context):
    """The context that the hooks of a method get: that of its fields. A method over several slots
    gets the whole one.
    """
    return table_context(methods, context) if tuple(method.slots) == ("embedding",) else context


def realise(methods, architecture, context):
    """Concrete modules of the network's slots whose architecture is known, on a context that is
    narrowed already. Numbers that a method will embed later, or leaves, have a plain part of their
    own.
    """
    parts: dict = {}
    for method in _in_network(methods, architecture):
        parts |= _made(method, architecture, slot_context(method, methods, context))
    parts = {slot: part for slot, part in parts.items() if part is not None and slot != "loss"}
    if any("numeric" in m.slots for m in methods):
        parts.setdefault("numeric", NumberVectors(context))
    return parts


def _made(method, architecture, context):
    """The concrete modules of a method by slot, None where nothing is to stand."""
    parts = method.realise(entries_of(method, architecture), context)
    return by_slot(method, parts, "realise", stands_in(method, architecture))


def _in_network(methods, architecture):
    """The methods whose architecture is known and a part of the network; a loss is none."""
    return [m for m in methods if {*stands_in(m, architecture)} - {"loss"}]


def realise_loss(methods, architecture, context):
    """The concrete module of the loss slot, or None where the estimator's own loss trains.

    Parameters
    ----------
    methods : list of SearchMethod
    architecture : dict of slot to dict
    context : BuildContext
        Of the whole table. Of several members each has a loss of its own, unless the method
        declares that it holds them all.

    Returns
    -------
    nn.Module or None
    """
    for method in methods:
        if "loss" in stands_in(method, architecture):
            _, kept = narrowed(methods, architecture, context)
            if kept.members == 1 or holds_members(method, "realise"):
                return _made(method, architecture, kept)["loss"]
            single = dataclasses.replace(kept, members=1)
            losses = [_made(method, architecture, single)["loss"] for _ in range(kept.members)]
            return None if losses[0] is None else MemberLosses(losses)
    return None


def packs_members(network, methods, architecture):
    """Whether the network and all parts of an architecture declare that one module of each holds
    all members.
    """
    return holds_members(network, "build") and all(
        holds_members(m, "realise") for m in _in_network(methods, architecture)
    )


def build_network(network, methods, architecture, context, parts=None, packed=None):
    """The network of an architecture on raw encoded batches; the one place where fit and files
    build it.

    Parameters
    ----------
    network : Network
    methods : list of SearchMethod
    architecture : dict of slot to dict
    context : BuildContext
        Of the whole table.
    parts : callable (BuildContext, int) -> dict of str to nn.Module, or None
        Makes the parts on the narrowed context, of the module of that number; None realises the
        architecture.
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


def build_module(network, context, parts):
    """The module of a network; a part in the body slot stands for all its wiring.

    Parameters
    ----------
    network : Network
    context : BuildContext
    parts : dict of str to nn.Module

    Returns
    -------
    nn.Module
    """
    if "body" in parts:
        return FieldNetwork(context, parts)
    return network.build(context, parts)


def _on_selection(network, context, made, selection):
    parts = made if selection is None else {**made, "selection": selection}
    module = build_module(network, context, parts)
    check_parts(network, module, made)
    if selection is None:
        return module
    if getattr(module, "selection", None) is not selection:
        raise TypeError(
            f"network={network!r} cannot drop fields: its module must be a "
            f"sklearn_autorec.nn.FieldNetwork, got "
            f"{type(module).__name__}."
        )
    return module


def carry(state, selection, context, module):
    """Weights of a network on the whole table as those of the same network on what is kept.

    Of an axis that a module declares in ``field_axes`` (see `sklearn_autorec.base.Network`) the
    elements of kept fields, pairs and values are taken. All other axes are taken whole.

    Parameters
    ----------
    state : dict of str to Tensor
        Of the network on the whole table. What the other network does not have is left out.
    selection : InputSelection
    context : BuildContext
        Of the whole table.
    module : nn.Module
        The network on what is kept.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    ValueError
        If a weight has another shape on what is kept than its module declares. The message names
        the module and the weight.
    """
    own, places, carried = module.state_dict(), _Places(selection, context), {}
    declared = {
        f"{prefix}.{name}".lstrip("."): axes
        for prefix, m in module.named_modules()
        for name, axes in getattr(m, "field_axes", {}).items()
    }
    for name, whole in state.items():
        if name not in own:
            continue
        axes = declared.get(name, {})
        t = whole
        for dim, axis in axes.items():
            kept, length = places.of(axis)
            if length != whole.shape[dim]:
                raise ValueError(
                    f"{_owner(module, name)} declares axis {dim} of {name!r} as {axis.describe()}, "
                    f"which is {length} on the whole table, but the axis has {whole.shape[dim]} "
                    f"elements."
                )
            t = t.index_select(dim, kept.to(t.device))
        if t.shape != own[name].shape:
            told = ", ".join(f"axis {dim} as {axis.describe()}" for dim, axis in axes.items())
            raise ValueError(
                f"{_owner(module, name)} has the weight {name!r} of shape {tuple(whole.shape)} on "
                f"{context.n_fields} fields and {tuple(own[name].shape)} on "
                f"{len(selection.fields)} of "
                f"them, and declares {told or 'no axis'} in field_axes. Make the layer with "
                "context.axis(...) for its numbers of inputs and outputs, or declare the axis; see "
                "sklearn_autorec.base.Network."
            )
        carried[name] = t
    return carried


def check_field_axes(network, context):
    """Refuse, before a search that may drop fields, a network whose weights could not be carried.

    It is built on tables of two rows a field, with all fields and without the last one.

    Raises
    ------
    ValueError, TypeError
        As `carry` and `build_network` would after the search.
    """
    if context.n_fields < 2:
        return
    small = dataclasses.replace(
        context,
        n_ids=(2,) * len(context.n_ids),
        sequences=tuple((2, length) for _, length in context.sequences),
        counts=(),
        given_vectors=(),
        generator=torch.Generator(),
    )
    selection = InputSelection(small, range(context.n_fields - 1))
    module = _on_selection(network, selection.narrow(small), {}, selection)
    carry(network.build(small, {}).state_dict(), selection, small, module)


def _owner(module, name):
    """The class of the module that has a weight."""
    return type(module.get_submodule(name.rpartition(".")[0])).__name__


class _Places:
    """Which elements of axes belong to what is kept."""

    def __init__(self, selection, context):
        self.context = context
        self.fields = torch.tensor(selection.fields, dtype=torch.int64)
        self.rows = torch.from_numpy(selection.table_rows(context))
        self.numbers = torch.tensor(selection.numbers, dtype=torch.int64)
        self.lists = torch.tensor(selection.lists, dtype=torch.int64)
        self.vectors = torch.tensor(selection.vectors, dtype=torch.int64)
        inputs = context.vector_inputs(selection.vectors)
        self.vector_inputs = torch.tensor(inputs, dtype=torch.int64)
        self.by_factor: dict = {}

    def of(self, axis):
        """Kept elements of an axis, rising, int64, and its length on the whole table."""
        elements, start = [], 0
        for run in axis.runs:
            own, length = torch.zeros(1, dtype=torch.int64), 1
            for factor in run:
                kept, n = self.of_factor(factor)
                own, length = (own.unsqueeze(1) * n + kept).flatten(), length * n
            elements.append(start + own)
            start += length
        return torch.cat(elements), start

    def of_factor(self, factor):
        if isinstance(factor, int):
            return torch.arange(factor), factor
        if factor not in self.by_factor:
            order = tuple_order(factor)
            if order is not None:
                tuples = pair_index(self.context.n_fields, order)
                kept = torch.isin(tuples, self.fields).all(0).nonzero()[:, 0]
            else:
                kept = {
                    "F": self.fields,
                    "V": self.rows,
                    "N": self.numbers,
                    "L": self.lists,
                    "D": self.vectors,
                    "W": self.vector_inputs,
                }[factor]
            self.by_factor[factor] = kept, int(self.context.axis(factor))
        return self.by_factor[factor]
