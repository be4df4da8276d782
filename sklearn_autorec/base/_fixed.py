"""Architectures that are known already."""

from .._registry import METHODS
from ._descriptions import describe
from ._method import SearchMethod, known_methods
from ._slots import SLOTS


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

    distributes = True

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

    @property
    def packed_entries(self):
        return self.method().packed_entries

    @property
    def stores_numbers(self):
        return self.method().stores_numbers

    def interaction_scores(self, architecture, context):
        return self.method().interaction_scores(architecture, context)

    def field_scores(self, architecture, context):
        return self.method().field_scores(architecture, context)

    def graph(self, architecture, context):
        return self.method().graph(architecture, context)

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


def has_slots(method):
    """Whether a method declares ``slots``, so that it speaks of parts by dicts of slots."""
    method = method.method() if isinstance(method, FixedArchitecture) else method
    return type(method).slots is not SearchMethod.slots
