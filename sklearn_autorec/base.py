"""The two kinds of object a user hands to an estimator: a network, and a search method."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, clone

from ._registry import METHODS, NETWORK_CLASSES, NETWORKS, public_name

__all__ = [
    "FixedArchitecture",
    "Network",
    "SearchMethod",
    "describe",
    "fixed_methods",
    "network_of",
    "networks_with_slot",
    "register_network",
    "resolve_network",
]

# What an architecture says beside its slots.
DESCRIBED = ("network", "embedding_dim", "numeric_embedding")
# Weights with which a searched part starts; see `SearchMethod`.
RETRAIN = ("scratch", "rewind", "keep", "none")
SLOTS = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")


class Network(BaseEstimator):
    """A network family with its sizes; the constructor stores parameters, ``build`` makes the
    module.

    Attributes
    ----------
    slots : tuple of str
        The slots whose parts ``build`` accepts. "loss" needs no code of the network, "embedding",
        "numeric", "sequence" and "gate" none of a `sklearn_autorec.nn.FieldNetwork`. Nor does
        "body": its part stands for all that such a network has behind the embeddings, and ``build``
        is not asked. "interaction" and "head" are wired by its module, which asks for a head by
        `sklearn_autorec.nn.head_part` and so tells it its widths. A slot that is named and not used
        is an error when a method searches it.
    supports_members : bool
        Whether the module of ``build`` holds ``context.members`` independent members in one: it
        then takes and gives rows of all, one member's after another's, and its layers with weights
        have a set for each; see `sklearn_autorec.nn.Members`. Otherwise the members are separate
        modules. It speaks for the ``build`` of its own class: a subclass that builds otherwise
        declares it anew.

    Notes
    -----
    Where a search drops fields, the network that is left takes over the elements of its weights
    that belong to the kept fields. For this the modules that ``build`` makes declare which axes of
    their weights have something for every field. Layers of ``sklearn_autorec.nn`` do so by
    themselves if their numbers of inputs and outputs come from ``context.axis``:

    - ``context.axis("F")``: a number per field;
    - ``context.axis("F", d)``: d numbers per field, as flattened embeddings are;
    - ``context.axis("F", "F")``: a number for every two fields, in both orders and with themselves;
    - ``context.axis("P")`` and ``context.axis("P", d)``: per pair i < j; "P3" for triples, and so
      on;
    - ``context.axis("V")`` and ``context.axis("N")``: per row of the tables, and per numeric field;
    - ``context.axis("L")``: per list field;
    - sums of these and of ints, for what stands side by side.

    A module with parameters or buffers of its own has an attribute ``field_axes``: a dict of their
    names to dicts of dimensions to such lengths, ``{"weight": {-1: context.axis("P", d)}}``.
    Dimensions count from the end where members have one in front. A weight whose shape changes with
    the number of fields without a declaration is refused before a search that may drop fields.
    """

    slots: tuple[str, ...] = ("gate", "embedding", "numeric", "sequence", "loss")
    supports_members: bool = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        NETWORK_CLASSES.add(cls)

    def build(self, context, parts):
        """Make the module.

        Parameters
        ----------
        context : sklearn_autorec.nn.BuildContext
        parts : dict of str to torch.nn.Module
            Modules that stand in some of ``slots``, but for the loss; the network makes the others
            itself.

        Returns
        -------
        torch.nn.Module
            ids, numeric, sequences -> logits (B, C).
        """
        raise NotImplementedError

    def adjust(self, module):
        """Set on a module whose training goes on those of the parameters that need no new weights.

        Parameters
        ----------
        module : torch.nn.Module
            Of ``build``; it may hold parts of search methods.

        Returns
        -------
        dict
            What was set, by name of the parameter.
        """
        return {}


def known_networks():
    """Networks by the short names under which they are registered, dict of str to type."""
    return NETWORKS.all()


def known_network_classes():
    """Classes of all networks by their public names, such as "sklearn_autorec.networks.FM"."""
    return NETWORK_CLASSES.all()


def register_network(name):
    """Class decorator: make a network available under ``network=name``.

    Raises
    ------
    ValueError
        If another class has that name.
    """

    def register(cls):
        NETWORKS.add(cls, name)
        return cls

    return register


def resolve_network(network):
    """A name or a `Network` object to a `Network` object.

    Raises
    ------
    ValueError
        If a name is not registered.
    TypeError
        If it is neither a name nor a `Network`.
    """
    if isinstance(network, str):
        known = known_networks()
        if network not in known:
            raise ValueError(
                f"network={network!r} is not known; choose one of {sorted(known)} or a Network "
                f"object."
            )
        return known[network]()
    if not isinstance(network, Network):
        raise TypeError(
            f"network must be a str or a Network object such as DeepFM(), got {network!r}."
        )
    return network


def holds_members(component, maker):
    """Whether a network or method declares that what its ``maker`` makes holds several members.

    A class that inherits the declaration but has a ``maker`` of its own has not declared anything
    about that."""
    if isinstance(component, FixedArchitecture):
        component = component.method()
    for cls in type(component).__mro__:
        if "supports_members" in vars(cls):
            return bool(component.supports_members)
        if maker in vars(cls):
            return False
    return False


def networks_with_slot(*slots):
    """Names of the registered networks that have a slot, or each of several."""
    return sorted(name for name, cls in known_networks().items() if {*slots} <= {*cls.slots})


def describe(component, kind):
    """A network or method as plain values: its class's public name under ``kind``, its
    parameters but for those that are ``fit_only``.
    """
    left_out = getattr(component, "fit_only", ())
    params = {
        name: _plain(value)
        for name, value in component.get_params(False).items()
        if name not in left_out
    }
    return {kind: public_name(type(component)), "params": params}


def is_described(network, description):
    """Whether a network is of the class that `describe` wrote down."""
    cls = NETWORK_CLASSES.find(description["network"])
    return cls is not None and public_name(cls) == public_name(type(network))


def without_fit_only(method):
    """A method as a fitted estimator stores it: a copy without what only its search reads."""
    if not getattr(method, "fit_only", ()):
        return method
    stored = copy.copy(method)
    stored.__dict__.update(dict.fromkeys(method.fit_only))
    return stored


def _plain(value):
    """Parameters as JSON has them: tuples as lists, numpy numbers as Python's."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def network_of(description):
    """The network that `describe` wrote down.

    Raises
    ------
    ValueError
        If its class is not known or does not take its parameters.
    """
    name = description.get("network") if isinstance(description, dict) else None
    cls = NETWORK_CLASSES.find(name)
    if cls is None:
        raise ValueError(
            f"network class {name!r} is not known; choose one of "
            f"{sorted(known_network_classes())}. "
            "A class of your own is known once its module is imported."
        )
    try:
        return cls(**description.get("params", {}))
    except TypeError as error:
        raise ValueError(
            f"network {name!r} cannot be made of {description.get('params')!r}: {error}"
        ) from error


def known_methods():
    """Search methods by public names, such as "sklearn_autorec.interaction.AutoFIS"."""
    return METHODS.all()


class SearchMethod(BaseEstimator):
    """One paper: how a part of a network is made searchable, searched and turned into a concrete
    part.

    The constructor only stores the paper's parameters. Everything that the engine needs is here or
    a hook of the searchable module; the engine never asks which method it runs.

    Attributes
    ----------
    slot : str
        The slot it searches: "gate", "embedding", "numeric", "sequence", "interaction", "body",
        "head" or "loss".
    slots : tuple of str
        All slots that it searches; ``(slot,)`` unless a subclass says otherwise. One that does
        hands over and gets dicts by slot: ``build`` and ``realise`` give a module for every slot,
        ``derive`` (or ``search``) an architecture for every slot, and the ``architecture`` of
        ``realise``, ``check`` and ``selection`` is such a dict. Where a model file holds a packed
        embedding table, its entry is missing in that of ``realise`` and ``check``, and no module is
        made for it. Modules of several slots may share submodules; the loss does so in the search
        only, since ``realise`` is called once more for it.
    retrain : {"scratch", "rewind", "keep", "none"}
        Weights with which the found part starts: new ones, those with which the search started, or
        those with which it ended; "none" are the latter without any further training, so that the
        searched network serves as it is. Of several methods each has its own rule for its part;
        that of the last holds for the rest of the network. What is not trained again rests in the
        searches that come later as well, and in the final training of the other parts: its weights
        stay, its batch statistics too.
    narrows : bool
        Whether its architectures drop fields or values: all that is found later, and the network
        itself, is then built for what ``selection`` keeps, in the numbering of that.
    streams : bool
        Whether ``partial_fit`` may begin with it: its searchable module then stays in the network
        from chunk to chunk, and what it has found so far serves, as with ``retrain="none"``. It
        needs the default ``search``, and a ``transfer`` that leaves nothing out.
    fit_only : tuple of str
        Parameters that only the search reads, such as another fitted model. They are None in copies
        and pickles of a fitted estimator, and in no architecture or model file; ``clone`` hands
        them on as they are.
    supports_members : bool
        Whether the module of ``realise`` holds ``context.members`` independent members in one. It
        speaks for the ``realise`` of its own class; see `Network`. Searches always run with one
        member.

    Notes
    -----
    The module returned by ``build`` may have these hooks:

    - ``arch_parameters()``: the architecture parameters; all others are ordinary weights.
    - ``arch_optimizer(n_steps)``: an optimiser for them, n_steps being its planned steps (default:
      Adam).
    - ``arch_schedule``: an `ArchSchedule`: by the backward pass of the weights (default), or in
      steps of its own: on which rows, by which gradient, how often, after which warm-up.
    - ``sample()`` and ``policy_loss(reward)``, on the module with the schedule, for its
      ``gradient="policy"``. The first draws an action, which the forward pass uses until the next
      draw; the second is given the reward (B,) of the rows, minus their losses, and returns what
      the gradient of the architecture parameters is taken of: a scalar, or losses (B,), which are
      averaged by the weights of the rows. Penalties are not added. A pass of such a step leaves
      the buffers as they were. On which action the weights train is up to the module
      (``set_progress`` may draw one).
    - ``set_progress(t)``: called before each training step with t in [0, 1].
    - ``penalty()``: a scalar tensor added to the task loss, in architecture steps as well.
    - ``after_step()``: called after each training step, when all optimisers have moved (proximal
      steps, clamps).
    - ``observe(batch, per_row_loss)``: called in each training step between forward and backward
      pass with the `EncodedTensors` and their losses (B,), detached and not yet weighted (counters,
      histories).
    - ``judged_share``, ``judge(network, loss, data)``: after the training, rows (that share of the
      training rows) that nothing was trained on, to compare what was found with chance.
    - ``begin_chunk(data)``, also of concrete modules: called before the training on each chunk of
      ``partial_fit`` with all its rows, as they were given (counts of values). In a stream that
      begins with a search the context's ``counts`` are zero.
    - ``summary()``: dict of JSON-able numbers for ``search_history_``, asked once an epoch.
    - ``set_widths(n_in, n_out, generator)``: in the head slot only, of concrete modules as well:
      makes the weights, once the network knows what it will give the head; see
      `sklearn_autorec.nn.head_part`.

    A module in the numeric slot maps scaled values and missing indicators, (B, 2 F_num), to (B,
    F_num, d). Beside a method of this slot the part of the embedding slot has the categorical and
    the list fields alone: that is the context which its methods get.

    A module in the sequence slot stands in place of the mean of a list: it is called with (vectors,
    present, targets), see `sklearn_autorec.nn.FieldNetwork`, and gives (B, F_seq, d).

    A module in the loss slot maps logits (B, C) and y (B,) to losses (B,). It trains the weights of
    the network, and its own parameters with them, in the search and in the final training.
    Validation rows, early stopping, histories, scores and architecture steps of their own
    (`ArchSchedule` can say otherwise) go by the estimator's own loss, ``context.reference_loss``.

    The concrete module of ``realise`` may have ``compact()``, which returns the module that serves.

    Subclasses register themselves by their public name (module and class, without private modules
    in between), so that a stored architecture finds its method. The bare name of a class means one
    of this package.
    """

    slot: str = "interaction"
    retrain: str = "scratch"
    narrows: bool = False
    streams: bool = False
    fit_only: tuple[str, ...] = ()
    supports_members: bool = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        METHODS.add(cls)

    def __sklearn_clone__(self):
        if not self.fit_only:
            return super().__sklearn_clone__()
        params = {
            name: value if name in self.fit_only else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
        }
        return type(self)(**params)

    @property
    def slots(self):
        return (self.slot,)

    @property
    def joint(self):
        """Whether it can search together with others: its search is the default one."""
        return type(self).search is SearchMethod.search

    def build(self, context):
        """The searchable module that stands in the slot during the search."""
        raise NotImplementedError

    def derive(self, module, context):
        """Read the architecture, a plain dict, off the searched module."""
        raise NotImplementedError

    def realise(self, architecture, context):
        """The concrete module of an architecture: physically small, no gates left over. None if
        nothing is left to stand there.

        The context is that of the inputs which ``selection`` keeps.
        """
        raise NotImplementedError

    def selection(self, architecture, context):
        """What an architecture keeps of the inputs, an `InputSelection`, or None for everything;
        asked if ``narrows``.
        """
        return None

    def transfer(self, state, architecture, context):
        """The weights of the searched network as those of the network that is built from the
        architecture.

        Asked after each search, for the weights with which it started and for those with which it
        ended. The final network takes over what ``retrain`` says, where name and shape agree (all
        of it if the user stops the search: the searched network is then all there is). With
        ``retrain="none"`` nothing of what is not trained again may be missing.

        Parameters
        ----------
        state : dict of str to Tensor
            All tensors of the searched network, the part of this method under the name of its slot
            ("embedding.weight"). They are those of the network itself: what changes is made anew.
        architecture : dict
        context : BuildContext
            Of the search.

        Returns
        -------
        dict of str to Tensor
            By default ``state``: the concrete part has the names of the searchable one.
        """
        return state

    def check(self, architecture, context):
        """Refuse an architecture that does not fit the table, before ``realise`` sees it: files may
        hold anything.

        Raises
        ------
        ValueError
            Naming what is wrong. The default accepts every dict.
        """

    def policy(self, problem):
        """Candidates of a search that only asks how good each is; for ``problem.evaluate``.

        A generator that yields lists of candidate architectures, dicts of what JSON knows, and is
        sent the list of their scores, higher being better and NaN meaning that one failed. It
        depends on these and on ``problem.context.generator`` alone, so that a search finds the
        same with any number of workers.

        Parameters
        ----------
        problem : sklearn_autorec.engine.SearchProblem
        """
        raise NotImplementedError

    def search(self, problem):
        """Find the architecture; returns a dict. The default is one gradient search over all
        epochs.

        Parameters
        ----------
        problem : sklearn_autorec.engine.SearchProblem
            Builds and trains searchable networks on the training rows.
        """
        module = self.build(problem.context)
        problem.train(module)
        return self.derive(module, problem.context)


class FixedArchitecture(SearchMethod):
    """No search: an architecture that is known already, for the slots of one method.

    Parameters
    ----------
    architecture : dict
        What a search found: ``estimator.architecture_[slot]``, also after a round trip through
        JSON. Of a method over several slots a dict of these by slot.
    retrain : {"scratch"}, default="scratch"
        The network starts from new weights.

    See Also
    --------
    CTRClassifier.from_architecture : The estimator of a whole ``architecture_``.

    Examples
    --------
    >>> from sklearn_autorec.base import FixedArchitecture
    >>> from sklearn_autorec.interaction import AutoFIS
    >>> found = {"method": "AutoFIS", "params": {"init_gate": 0.6}, "interactions": [[0, 1]]}
    >>> FixedArchitecture(found).slot
    'interaction'
    """

    def __init__(self, architecture):
        self.architecture = architecture

    @property
    def slot(self):
        return self.method().slot

    @property
    def slots(self):
        return self.method().slots

    @property
    def narrows(self):
        return self.method().narrows

    def entries(self):
        """The architecture by slot.

        Raises
        ------
        ValueError
            If the slots are not those of its method.
        """
        method = self.method()
        if not has_slots(method):
            return {method.slot: self.architecture}
        if self.architecture.keys() != {*method.slots}:
            raise ValueError(
                f"{method!r} searches the slots {tuple(method.slots)} together; its architecture "
                f"must have an entry for each of them, got entries for "
                f"{list(self.architecture)!r:.200}."
            )
        return dict(self.architecture)

    def method(self):
        """The method that found the architecture, with the parameters that it had."""
        architecture = self.architecture
        if not isinstance(architecture, dict) or not architecture or "method" in architecture:
            return _described_method(architecture)
        first, *others = (_described_method(entry) for entry in architecture.values())
        for other in others:
            if describe(other, "method") != describe(first, "method"):
                raise ValueError(
                    f"architecture must be of one method with the same parameters in all its "
                    f"slots, got {first!r} and {other!r}."
                )
        return first

    @property
    def joint(self):
        return False

    def check(self, architecture, context):
        self.method().check(architecture, context)

    def search(self, problem):
        self.entries()
        self.check(self.architecture, problem.context)
        return dict(self.architecture)

    def realise(self, architecture, context):
        return self.method().realise(architecture, context)

    def selection(self, architecture, context):
        return self.method().selection(architecture, context)


def _described_method(entry):
    """The method that `describe` wrote into an entry of an architecture."""
    cls = METHODS.find(entry.get("method")) if isinstance(entry, dict) else None
    if cls is None:
        raise ValueError(
            f"architecture must be a dict whose 'method' is one of {sorted(known_methods())}, "
            f"got {entry!r:.200}. A method of your own is known once its module is imported."
        )
    try:
        return cls(**entry.get("params", {}))
    except TypeError as error:
        raise ValueError(
            f"{entry['method']} cannot be made of {entry.get('params')!r}: {error}"
        ) from error


def has_slots(method):
    """Whether a method declares ``slots``, so that it speaks of parts by dicts of slots."""
    method = method.method() if isinstance(method, FixedArchitecture) else method
    return type(method).slots is not SearchMethod.slots


def fixed_methods(architecture):
    """The methods of a whole ``architecture_``, each with what it found.

    Parameters
    ----------
    architecture : dict
        By slot; further keys are passed over.

    Returns
    -------
    list of FixedArchitecture
        One a method, those that drop fields first, as they have to search first.

    Raises
    ------
    ValueError
        If an entry is not that of a known method for its slot, or if a method over several slots
        lacks one of them.
    """
    methods, left = [], [slot for slot in SLOTS if slot in architecture]
    while left:
        method = _described_method(architecture[left[0]])
        if left[0] not in method.slots:
            raise ValueError(
                f"The method of slot {left[0]!r} must be one for this slot, got {method!r}, which "
                f"searches {tuple(method.slots)}."
            )
        if has_slots(method):
            own = {slot: architecture[slot] for slot in method.slots if slot in left}
            methods.append(FixedArchitecture(own))
        else:
            own = {method.slot: architecture[method.slot]}
            methods.append(FixedArchitecture(own[method.slot]))
        methods[-1].entries()
        left = [slot for slot in left if slot not in own]
    return sorted(methods, key=lambda method: not method.narrows)
