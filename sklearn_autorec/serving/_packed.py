"""Packed parts in model files: parts whose arrays alone say how large they are.

A part tells its form and its method which parts it packs, so that nothing here knows either."""

from .._registry import HOME, public_name
from ..base import SLOTS
from ..engine._slots import packed_entries
from ..nn import PACKED_PARTS, PackedPart
from ._nodes import refuse
from ._stored import with_empty_tables

__all__ = ["check_packed", "name_prefix", "packed_forms", "packed_part"]


def name_prefix(members, number):
    """Of the names of weights in the module that holds a member."""
    return "" if members == 1 else f"networks.{number}."


def packed_part(state, name, context):
    """An empty module of the stored form, as large as the file's arrays; their contents are checked
    once they are in place.

    Parameters
    ----------
    state : ModelState
    name : str
        Of the part in the network.
    context : BuildContext
    """
    start = f"{name}."
    arrays = {
        n.removeprefix(start): a for n, a in with_empty_tables(state).items() if n.startswith(start)
    }
    return PACKED_PARTS[state.packed[name]].from_arrays(context, arrays)


def packed_forms(module):
    """Forms of the packed parts of a network, by name.

    Raises
    ------
    TypeError
        If one is a part of another part: a file holds those of slots only.
    """
    forms = {n: m.form for n, m in module.named_modules() if isinstance(m, PackedPart)}
    for name in forms:
        if name.removeprefix("networks.").lstrip("0123456789.") not in SLOTS:
            raise TypeError(
                f"{name!r} of the network is packed; a model can be saved if only parts of slots "
                f"are: {SLOTS}."
            )
    return forms


def check_packed(packed, methods, entries, members):
    """The forms of packed parts that a file names.

    Refused are forms of other packages, and parts that no method packs. Of several members all are
    packed or none.

    Parameters
    ----------
    packed : object
        As the file has it.
    methods : list of FixedArchitecture
    entries : dict of slot to dict
        Their architecture.
    members : int

    Returns
    -------
    dict of str to str
        By name of the part in the network.
    """
    forms = sorted(form for form, cls in PACKED_PARTS.items() if _is_own(cls))
    slots = {
        slot
        for method in methods
        for slot, told in packed_entries(method).items()
        if told is not None and slot in entries
    }
    wanted = [
        {f"{name_prefix(members, k)}{slot}" for k in range(members)} for slot in sorted(slots)
    ]
    if (
        not isinstance(packed, dict)
        or not packed.keys() <= set().union(*wanted)
        or not all(form in forms for form in packed.values())
    ):
        refuse(
            "packed",
            f"one of the forms {forms} of a part that its method packs, see packed_entries",
            packed,
        )
    for names in wanted:
        if names & packed.keys() and not names <= packed.keys():
            refuse("packed", f"a form of each of {sorted(names)}", packed)
    return packed


def _is_own(cls):
    """Whether a class is one of this package: files make no others."""
    return public_name(cls).startswith(f"{HOME}.")
