"""The search phase of a fit: methods one after the other, or jointly, each around what is found
already.
"""

import dataclasses

from ..base import SLOTS, FixedArchitecture, SearchMethod, describe, networks_with_slot
from ..nn import MemberLosses, Members
from ..utils._sklearn import validate_parameters
from ._building import (
    build_network,
    carry,
    check_field_axes,
    narrowed,
    realise,
    realise_loss,
    select,
    slot_context,
)
from ._problem import SearchProblem

__all__ = ["Found", "check_methods", "check_slots", "search_parts"]


@dataclasses.dataclass
class Found:
    """What the search phase leaves.

    Parameters
    ----------
    architecture : dict of slot to dict
    starts : list of (str, dict of str to Tensor)
        Weights that the final network takes over: all those whose name starts with the string.
    history : list of dict
    interrupted : bool
    last : list of (str, dict of str to Tensor)
        All weights of the last search of which an epoch was finished.
    """

    architecture: dict = dataclasses.field(default_factory=dict)
    starts: list = dataclasses.field(default_factory=list)
    history: list = dataclasses.field(default_factory=list)
    interrupted: bool = False
    last: list = dataclasses.field(default_factory=list)

    def fall_back(self):
        """Take the weights of the last search for the model, since nothing better will come.

        Raises
        ------
        KeyboardInterrupt
            If no search has finished an epoch: there is no model to keep.
        """
        if not self.last:
            raise KeyboardInterrupt
        self.interrupted, self.starts = True, self.last

    def hand_over(self, module):
        """Start the final network from weights of the searches, where name and shape agree.

        Of several members the first takes them over: the others would not be independent of it.
        """
        if isinstance(module, Members):
            for prefix, state in self.starts:
                taken = {name: t for name, t in state.items() if name.startswith(prefix)}
                for name, view in module.weights_of(
                    0, {name: t.shape for name, t in taken.items()}
                ).items():
                    view.copy_(taken[name])
            return
        own = module.state_dict()
        for prefix, state in self.starts:
            matching = {
                name: t
                for name, t in state.items()
                if name.startswith(prefix) and name in own and own[name].shape == t.shape
            }
            module.load_state_dict(matching, strict=False)

    def hand_over_loss(self, part):
        """Start a part in the loss slot from the weights that a search has left it; of several
        members, that of the first.
        """
        part = part.losses[0] if isinstance(part, MemberLosses) else part
        own = part.state_dict(prefix="loss.")
        for prefix, state in self.starts:
            matching = {
                name.removeprefix("loss."): t
                for name, t in state.items()
                if name.startswith(prefix) and name in own and own[name].shape == t.shape
            }
            part.load_state_dict(matching, strict=False)


def check_methods(search, joint):
    """``search`` as a list of methods, refused if two share a slot or cannot search together."""
    methods = (
        [] if search is None else list(search) if isinstance(search, list | tuple) else [search]
    )
    for method in methods:
        if not isinstance(method, SearchMethod):
            raise TypeError(
                f"search must be None, a search method such as AutoFIS(), or a list of them, got "
                f"{method!r}."
            )
    slots = [method.slot for method in methods]
    if len(set(slots)) < len(slots):
        raise ValueError(
            f"search={search!r} has two methods for one slot; each slot can be searched once."
        )
    late = [method for method in methods[1:] if method.narrows]
    if late:
        raise ValueError(
            f"search={search!r}: {late[0]!r} drops fields, so that it must come first: what is "
            f"searched before it would "
            "be found for fields that are no longer there."
        )
    if joint and len(methods) > 1 and methods[0].narrows:
        raise ValueError(
            f"joint=True: {methods[0]!r} drops fields and has to search first; leave joint=False."
        )
    if joint:
        alone = [method for method in methods if not method.joint]
        if alone and len(methods) > 1:
            raise ValueError(
                f"joint=True needs methods that search by gradients; {alone!r} do not. Leave "
                f"joint=False to search one "
                "after the other."
            )
    return methods


def check_slots(network, methods):
    """Refuse wrong parameters, and methods whose slot the network does not have."""
    for component in (network, *methods):
        if hasattr(component, "_parameter_constraints"):
            validate_parameters(component)
    for method in methods:
        if method.slot not in SLOTS:
            raise ValueError(
                f"search={method!r} searches the {method.slot!r} slot, which no network has "
                f"(network={network!r}); "
                f"a slot is one of {SLOTS}."
            )
        if method.slot not in network.slots:
            raise ValueError(
                f"search={method!r} searches the {method.slot!r} slot, which network={network!r} "
                f"does not have: its slots "
                f"are {tuple(network.slots)}; networks that have it: "
                f"{networks_with_slot(method.slot)}."
            )


def search_parts(methods, joint, network, fresh_context, loss, data, plan, device, progress):
    """Run the searches.

    Parameters
    ----------
    methods : list of SearchMethod
    joint : bool
        Train all searchable parts in one run.
    network : Network
    fresh_context : callable () -> BuildContext
        With its generator at the start.
    loss, data, plan, device
        See `SearchProblem`; the plan's epochs are those of one search.
    progress : EpochReporter

    Returns
    -------
    Found

    Raises
    ------
    KeyboardInterrupt
        If the user stopped it before one epoch was finished.
    """
    found = Found()
    for group in [methods] if joint and methods else [[m] for m in methods]:
        known = dict(found.architecture)
        if group and group[0].narrows and not isinstance(group[0], FixedArchitecture):
            check_field_axes(network, fresh_context())
        selection, context = narrowed(methods, known, fresh_context())
        problem = SearchProblem(
            network,
            slot_context(group[0].slot, methods, context) if len(group) == 1 else context,
            tuple(m.slot for m in group),
            lambda known=known: _known_parts(methods, known, fresh_context),
            loss,
            select(data, selection),
            plan,
            device,
            progress.begin("search-" + "+".join(type(m).__name__ for m in group), plan.epochs),
            context,
        )
        if len(group) == 1:
            results = [group[0].search(problem)]
        else:
            contexts = [slot_context(m.slot, methods, context) for m in group]
            modules = [m.build(own) for m, own in zip(group, contexts, strict=True)]
            problem.train(*modules)
            results = [
                m.derive(module, own)
                for m, module, own in zip(group, modules, contexts, strict=True)
            ]
        progress.end()
        if problem.interrupted and not problem.history:
            found.fall_back()  # what half an epoch has found is worth nothing
            return found
        for method, result in zip(group, results, strict=True):
            known_as = {} if isinstance(method, FixedArchitecture) else describe(method, "method")
            found.architecture[method.slot] = {**known_as, **result}
            if method.narrows:
                _carry_states(problem, network, methods, found.architecture, fresh_context())
            found.starts += _starts(method, problem, f"{method.slot}.")
        found.history += problem.history
        if problem.history and problem.final_state:
            found.last = [("", problem.final_state)]
        if problem.interrupted:
            found.fall_back()
            return found
    if methods:
        # The last method's rule holds for the network around the searched parts as well, not for
        # those of methods with another rule.
        others = tuple(f"{m.slot}." for m in methods if m.retrain != methods[-1].retrain)
        found.starts = [
            (prefix, {name: t for name, t in state.items() if not name.startswith(others)})
            for prefix, state in _starts(methods[-1], problem, "")
        ] + found.starts
    return found


def _known_parts(methods, known, fresh_context):
    """Fresh modules by slot of what is known already. The loss draws from a generator of
    its own.
    """
    parts = realise(methods, known, narrowed(methods, known, fresh_context())[1])
    loss = realise_loss(methods, known, fresh_context())
    return parts if loss is None else {**parts, "loss": loss}


def _carry_states(problem, network, methods, architecture, context):
    """Bring the weights of a search on the whole table to the network on what it kept."""
    selection, _ = narrowed(methods, architecture, context)
    if selection is None or not problem.initial_state:
        return
    module = build_network(network, methods, architecture, context)
    for name in ("initial_state", "final_state"):
        setattr(problem, name, carry(getattr(problem, name), selection, context, module))


def _starts(method, problem, prefix):
    state = {"scratch": {}, "rewind": problem.initial_state, "keep": problem.final_state}[
        method.retrain
    ]
    return [(prefix, state)] if state else []
