"""The search phase of a fit: methods one after the other, or jointly, each around what is found
already.
"""

import dataclasses

from ..base import RETRAIN, SLOTS, FixedArchitecture, SearchMethod, describe, networks_with_slot
from ..utils._sklearn import validate_parameters
from ._building import (
    build_network,
    carry,
    check_field_axes,
    narrowed,
    realise,
    realise_loss,
    select,
    select_stream,
    slot_context,
)
from ._found import Found
from ._problem import SearchProblem
from ._slots import by_slot, entries_of
from ._time_limit import TimeLimit

__all__ = ["Found", "check_methods", "check_slots", "search_parts"]


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
    owners: dict = {}
    for method in methods:
        if not isinstance(method.slots, tuple | list) or not method.slots:
            raise ValueError(
                f"slots of {method!r} must be a tuple with the name of one slot or more, got "
                f"{method.slots!r}."
            )
        for slot in method.slots:
            owners.setdefault(slot, []).append(method)
    for slot, rivals in owners.items():
        if len(rivals) > 1:
            raise ValueError(
                f"search={search!r} has two methods for one slot; each slot can be searched once, "
                f"and {slot!r} is searched by {rivals!r}."
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
        if method.retrain not in RETRAIN:
            raise ValueError(
                f"search={method!r} has retrain={method.retrain!r}; it must be one of {RETRAIN}."
            )
        wide = len(method.slots) > 1 and "embedding" in method.slots
        if wide and "numeric" not in method.slots:
            rivals = [other for other in methods if "numeric" in other.slots]
            if rivals:
                raise ValueError(
                    f"search={methods!r}: {method!r} searches embeddings together with other "
                    f"slots, numbers included, so that {rivals[0]!r} cannot embed these beside it."
                )
        beside = {slot for other in methods for slot in other.slots} & {"interaction", "head"}
        if "body" in method.slots and beside:
            raise ValueError(
                f"search={methods!r}: a part in the 'body' slot stands for everything behind the "
                f"embeddings, so that there is no {' and no '.join(map(repr, sorted(beside)))} "
                f"slot to search beside it."
            )
        for slot in method.slots:
            if slot not in SLOTS:
                raise ValueError(
                    f"search={method!r} searches the {slot!r} slot, which no network has "
                    f"(network={network!r}); "
                    f"a slot is one of {SLOTS}."
                )
            if slot not in network.slots:
                raise ValueError(
                    f"search={method!r} searches the {slot!r} slot, which network={network!r} "
                    f"does not have: its slots "
                    f"are {tuple(network.slots)}; networks that have it: "
                    f"{networks_with_slot(*method.slots)}."
                )


def search_parts(
    methods,
    joint,
    network,
    fresh_context,
    loss,
    data,
    plan,
    device,
    progress,
    encoder,
    stream,
    limit=None,
    share=1.0,
):
    """Run the searches.

    Parameters
    ----------
    methods : list of SearchMethod
    joint : bool
        Train all searchable parts in one run.
    network : Network
    fresh_context : callable () -> BuildContext
        With its generator at the start.
    loss, data, plan, device, encoder, stream
        See `SearchProblem`; the plan's epochs are those of one search.
    progress : EpochReporter
    limit : TimeLimit or None
        Of the fit. What a search has found when its part of the time is over is what it finds.
    share : float
        Of the time that is left, for all searches together.

    Returns
    -------
    Found

    Raises
    ------
    KeyboardInterrupt
        If the user stopped it before one epoch was finished.
    """
    found, limit = Found(), TimeLimit(None) if limit is None else limit
    groups = [methods] if joint and methods else [[m] for m in methods]
    deadlines = limit.phases(len(groups), share)
    for group, deadline in zip(groups, deadlines, strict=True):
        known = dict(found.architecture)
        if group and group[0].narrows and not isinstance(group[0], FixedArchitecture):
            check_field_axes(network, fresh_context())
        selection, context = narrowed(methods, known, fresh_context())
        problem = SearchProblem(
            network,
            slot_context(group[0], methods, context) if len(group) == 1 else context,
            tuple(slot for m in group for slot in m.slots),
            lambda known=known: found.give_weights(_known_parts(methods, known, fresh_context)),
            loss,
            select(data, selection),
            dataclasses.replace(plan, deadline=deadline),
            device,
            progress.begin(
                "search-" + "+".join(type(m).__name__ for m in group),
                # A search of a method's own trains as often as it likes.
                plan.epochs if all(m.joint for m in group) else None,
            ),
            tuple(slot for slot, rule in found.rules.items() if rule == "none"),
            context,
            encoder,
            select_stream(stream, selection),
        )
        try:
            results = _search(group, methods, problem)
            if plan.processes is not None:  # what rounding decides is decided once
                results = plan.processes.value_of_first(lambda results=results: results)
        except KeyboardInterrupt:  # between trainings: there is no architecture
            progress.end()
            found.fall_back()
            return found
        progress.end()
        cancelled = problem.interrupted and not problem.out_of_time
        if problem.out_of_time:
            limit.cut.append("search-" + "+".join(type(m).__name__ for m in group))
        if cancelled and not problem.history:
            found.fall_back()  # what half an epoch has found is worth nothing
            return found
        for method, result in zip(group, results, strict=True):
            known_as = {} if isinstance(method, FixedArchitecture) else describe(method, "method")
            for slot, own in by_slot(method, result, "the search").items():
                found.architecture[slot] = {**known_as, **own}
            own = slot_context(method, methods, context)
            _transfer(method, problem, entries_of(method, found.architecture), own)
            if method.narrows:
                _carry_states(problem, network, methods, found.architecture, fresh_context())
        for method in group:
            for slot in method.slots:
                found.starts += _starts(method, problem, f"{slot}.")
                found.rules[slot] = method.retrain
        found.history += problem.history
        if problem.history and problem.final_state:
            found.last = [("", problem.final_state)]
        if cancelled:
            found.fall_back()
            return found
        if problem.kept is not None:
            found.kept[group[0].slots[0]] = problem.kept
    if methods:
        # The last method's rule holds for the network around the searched parts as well, not for
        # those of methods with another rule.
        found.rest = methods[-1].retrain
        others = tuple(
            f"{slot}." for m in methods if m.retrain != methods[-1].retrain for slot in m.slots
        )
        found.starts = [
            (prefix, {name: t for name, t in state.items() if not name.startswith(others)})
            for prefix, state in _starts(methods[-1], problem, "")
        ] + found.starts
    return found


def _search(group, methods, problem):
    """What the methods of a group find."""
    if len(group) == 1:
        return [group[0].search(problem)]
    contexts = [slot_context(m, methods, problem.network_context) for m in group]
    modules = [m.build(context) for m, context in zip(group, contexts, strict=True)]
    problem.train(*modules)
    each = zip(group, modules, contexts, strict=True)
    return [m.derive(module, context) for m, module, context in each]


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


def _transfer(method, problem, architecture, context):
    """Bring the weights of a search to the names and shapes of what was found."""
    for name in ("initial_state", "final_state"):
        state = getattr(problem, name)
        if state:
            state = method.transfer(state, architecture, context)
            setattr(problem, name, state)


def _starts(method, problem, prefix):
    final = problem.final_state
    if method.retrain == "none" and not final:
        raise ValueError(
            f"search={method!r} has retrain='none', but its search trains no network that could "
            f"serve."
        )
    state = {"scratch": {}, "rewind": problem.initial_state, "keep": final, "none": final}[
        method.retrain
    ]
    return [(prefix, state)] if state else []
