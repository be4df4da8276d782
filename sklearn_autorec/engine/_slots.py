"""Methods over one slot and over several, in one form: dicts by slot."""

from collections.abc import Mapping

from ..base import has_slots

__all__ = ["by_slot", "entries_of", "packed_entries", "stands_in", "take_places"]


def by_slot(method, value, hook, slots=None):
    """What a hook of a method gives, as a dict by slot.

    Parameters
    ----------
    method : SearchMethod
    value : object or dict of slot to object
        The latter of a method that declares ``slots``.
    hook : str
        Its name, for messages.
    slots : iterable of str or None, default=None
        Those that are asked for; None is all slots of the method.

    Returns
    -------
    dict

    Raises
    ------
    TypeError
        If something else than a dict with exactly these slots is given.
    """
    slots = tuple(method.slots if slots is None else slots)
    if not has_slots(method):
        return dict.fromkeys(slots, value)
    if not isinstance(value, Mapping) or value.keys() != {*slots}:
        given = list(value) if isinstance(value, Mapping) else value
        raise TypeError(
            f"{hook} of {method!r} must give a dict with the slots {slots}, got {given!r:.200}."
        )
    return dict(value)


def stands_in(method, architecture):
    """The slots of a method whose architecture is known, list of str."""
    return [slot for slot in method.slots if slot in architecture]


def entries_of(method, architecture):
    """The known architecture of a method as its own hooks take it.

    Parameters
    ----------
    method : SearchMethod
    architecture : dict of slot to dict

    Returns
    -------
    dict or None
        The entry of its slot; of a method that declares ``slots`` a dict of those by slot. None
        if none of its slots is known.
    """
    known = stands_in(method, architecture)
    if not known:
        return None
    return {s: architecture[s] for s in known} if has_slots(method) else architecture[known[0]]


def packed_entries(method):
    """``packed_entries`` of a method as a dict by slot."""
    own = method.packed_entries
    if not has_slots(method):
        return {method.slot: own}
    return {slot: None if own is None else own.get(slot) for slot in method.slots}


def take_places(slots, searched):
    """Searchable modules by slot.

    Parameters
    ----------
    slots : tuple of str
    searched : sequence of nn.Module and dict of slot to nn.Module
        Dicts say where their modules stand; the others take the slots that are left, in order.

    Returns
    -------
    dict of slot to nn.Module

    Raises
    ------
    ValueError
        If a slot is left over, taken twice, or none of ``slots``.
    """
    named = [pair for s in searched if isinstance(s, Mapping) for pair in s.items()]
    taken = [slot for slot, _ in named]
    left = [slot for slot in slots if slot not in taken]
    others = [s for s in searched if not isinstance(s, Mapping)]
    if sorted([*taken, *left]) != sorted(slots) or len(left) != len(others):
        raise ValueError(
            f"The searchable modules must stand in the slots {slots}, one in each; got dicts for "
            f"{taken} and {len(others)} modules for the others."
        )
    return {**dict(named), **dict(zip(left, others, strict=True))}
