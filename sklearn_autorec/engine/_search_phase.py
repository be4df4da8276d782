"""The search phase of a fit: methods one after the other, or jointly, each around what is found
already.
"""

import dataclasses

from ..base import RETRAIN, SLOTS, FixedArchitecture, SearchMethod, describe, networks_with_slot
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
from ._slots import by_slot, entries_of

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
        All weights of the last search of which an epoch was finished, brought over to its
        architecture.
    rules : dict of slot to str
        ``retrain`` of the methods whose search is over.
    rest : str
        Rule of the network around them.
    kept : dict of slot to object
        What `SearchProblem` was left to keep, under the first slot of each method.
    """

    architecture: dict = dataclasses.field(default_factory=dict)
    starts: list = dataclasses.field(default_factory=list)
    history: list = dataclasses.field(default_factory=list)
    interrupted: bool = False
    last: list = dataclasses.field(default_factory=list)
    rules: dict = dataclasses.field(default_factory=dict)
    rest: str = "scratch"
    kept: dict = dataclasses.field(default_factory=dict)

    def rests(self, name):
        """Whether a weight or a module of that name ("slot.", for a whole part) is not trained
        again.
        """
        for slot, rule in self.rules.items():
            if name.startswith(f"{slot}."):
                return rule == "none"
        return self.rest == "none"

    def leaves(self, module, part=None):
        """Whether there is something to train in a network and in a part of the loss slot; if not,
        what was searched serves.
        """
        names = [name for name, _ in module.named_parameters()]
        if part is not None:
            names += [f"loss.{name}" for name, _ in part.named_parameters()]
        return not all(self.rests(name) for name in names)

    def give_weights(self, parts):
        """Bring the parts that are not trained again to their weights, for a search around them.

        Parameters
        ----------
        parts : dict of slot to Module

        Returns
        -------
        dict, the same
        """
        for slot, part in parts.items():
            if self.rules.get(slot) == "none":
                _take_over(part, f"{slot}.", self.starts)
                self.check_complete(part, f"{slot}.")
        return parts

    def check_complete(self, module, prefix=""):
        """Refuse what is not trained again and lacks some of its weights.

        Raises
        ------
        ValueError
        """
        known = {
            name: t.shape
            for start, state in self.starts
            for name, t in state.items()
            if name.startswith(start)
        }
        for name, t in module.state_dict(prefix=prefix).items():
            if self.rests(name) and known.get(name) != t.shape:
                told = f"of shape {tuple(known[name])}" if name in known else "not there"
                raise ValueError(
                    f"retrain='none' needs all weights of the searched network: {name!r} of shape "
                    f"{tuple(t.shape)} is {told}. The hook transfer of the search method must give "
                    f"it; otherwise choose retrain='keep' or 'scratch'."
                )

    def fall_back(self):
        """Take the weights of the last search for the model, since nothing better will come.

        Raises
        ------
        KeyboardInterrupt
            If no search has finished an epoch: there is no model to keep.
        """
        if not self.last:
            raise KeyboardInterrupt
        self.interrupted, self.starts, self.rules, self.rest = True, self.last, {}, "scratch"

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
        _take_over(module, "", self.starts)
        self.check_complete(module)

    def hand_over_loss(self, part):
        """Start a part in the loss slot from the weights that a search has left it; of several
        members, that of the first.
        """
        part = part.losses[0] if isinstance(part, MemberLosses) else part
        _take_over(part, "loss.", self.starts)
        self.check_complete(part, "loss.")


def _take_over(module, prefix, starts):
    """Load from weights of searches what agrees in name and shape with a module whose names begin
    with ``prefix``.
    """
    own = module.state_dict(prefix=prefix)
    for start, state in starts:
        matching = {
            name.removeprefix(prefix): t
            for name, t in state.items()
            if name.startswith(start) and name in own and own[name].shape == t.shape
        }
        module.load_state_dict(matching, strict=False)


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
    methods, joint, network, fresh_context, loss, data, plan, device, progress, encoder=None
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
    loss, data, plan, device
        See `SearchProblem`; the plan's epochs are those of one search.
    progress : EpochReporter
    encoder : FieldEncoder, FrozenEstimator of one, or None
        See `SearchProblem`.

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
            slot_context(group[0], methods, context) if len(group) == 1 else context,
            tuple(slot for m in group for slot in m.slots),
            lambda known=known: found.give_weights(_known_parts(methods, known, fresh_context)),
            loss,
            select(data, selection),
            plan,
            device,
            progress.begin(
                "search-" + "+".join(type(m).__name__ for m in group),
                # A search of a method's own trains as often as it likes.
                plan.epochs if all(m.joint for m in group) else None,
            ),
            tuple(slot for slot, rule in found.rules.items() if rule == "none"),
            context,
            encoder,
        )
        try:
            results = _search(group, methods, problem)
        except KeyboardInterrupt:  # between trainings: there is no architecture
            progress.end()
            found.fall_back()
            return found
        progress.end()
        if problem.interrupted and not problem.history:
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
        if problem.interrupted:
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
