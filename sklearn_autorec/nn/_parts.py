"""What the concrete parts of networks tell of themselves, and parts that are stored in a form of
their own.

A part has those of these methods that it has an answer to; whoever asks sees whether they are
there:

- ``sizes()``, of the embedding slot: length of the embeddings, a list with an entry for each field
  of the part's context, in the order of the F axis: an int, or an int ndarray (n_rows,) of the
  field's table where it is chosen for each value. A list that shares the vocabulary of another
  field has that field's.
- ``nbytes()``: bytes by kind, see `KINDS`; what is not named is zero.
- ``interactions()``, of the interaction and the body slot: the combinations of fields that the part
  reads, list of (tuple of int, float or None): fields of any order, rising, and the weight.
- ``compact()``: the part that serves after the training, the same function of its inputs in fewer
  bytes. Where the architecture does not say how large it is, it is a `PackedPart`.
"""

# Of bytes: vectors of values and of numbers; what brings them to a common width; what says where
# stored numbers belong, or to what a value is mapped; everything behind the embeddings.
KINDS = ("embedding", "projection", "index", "network")

# Classes of packed parts by their forms. A class enters itself when it is defined.
PACKED_PARTS: dict[str, type["PackedPart"]] = {}


class PackedPart:
    """Base of parts whose arrays alone say how large they are, so that model files store the name
    of their form with these; a subclass of this and of ``nn.Module``.

    A part is packed by ``compact()`` of the part of ``realise``. Its method declares
    ``packed_entries`` (see `sklearn_autorec.base.SearchMethod`), and a file is then read by
    ``from_arrays`` and ``check``: nothing else of the package needs to know a form.

    Attributes
    ----------
    form : str
        Its name in model files, of one class in all. A class without a name is no form but the base
        of some.
    """

    form: str = ""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        name = vars(cls).get("form", "")
        other = PACKED_PARTS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"Two classes have the form {name!r}: {other.__module__}.{other.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}. Give one of them another name."
            )
        if name:
            PACKED_PARTS[name] = cls

    @classmethod
    def from_arrays(cls, context, arrays):
        """The module of its own ``state_dict``.

        It may come from a file, so that names, types and shapes are in doubt. What is made must be
        no larger than a small multiple of the arrays.

        Parameters
        ----------
        context : BuildContext
            Of the part.
        arrays : dict of str to ndarray
            Their contents are left to `check`, which is called once they are in place.

        Raises
        ------
        ValueError
            If they are not those of the form, or do not go with the context.
        """
        raise NotImplementedError

    def check(self):
        """Refuse contents with which the part would read outside of what is stored.

        Raises
        ------
        ValueError
        """
        raise NotImplementedError


def tensor_bytes(tensors):
    """Bytes of some tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def own_bytes(part, kind="embedding"):
    """``nbytes`` of a part whose parameters are of one kind: buffers that its state holds are
    indices, others (made from the architecture, of the size of the fields) do not count.
    """
    buffers = [
        buffer
        for module in part.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]
    return {kind: tensor_bytes(part.parameters()), "index": tensor_bytes(buffers)}
