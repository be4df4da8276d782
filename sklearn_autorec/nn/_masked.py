"""Embedding tables of which some elements are held at zero."""

import base64

import numpy as np
import torch

from ._context import Inputs
from ._embeddings import FieldEmbedding
from ._numeric import numeric_shapes
from ._packed import pack_table
from ._read_rows import read_rows


def mask_to_text(mask):
    """A boolean matrix as plain values: shape, and its bits in base64."""
    bits = np.packbits(np.asarray(mask, bool), bitorder="little")
    return {"shape": list(mask.shape), "bits": base64.b64encode(bits.tobytes()).decode("ascii")}


def mask_from_text(text):
    """The boolean matrix that `mask_to_text` wrote.

    Raises
    ------
    ValueError
        If the text is not such a dict, or the bits do not fill the shape.
    """
    shape, bits = (text.get("shape"), text.get("bits")) if isinstance(text, dict) else (None, None)
    whole = (
        isinstance(shape, list | tuple)
        and len(shape) == 2
        and all(type(n) is int and n >= 0 for n in shape)
    )
    if not whole or not isinstance(bits, str):
        raise ValueError(
            f"a mask must be a dict of 'shape', two sizes, and 'bits', a string, got {text!r:.200}."
        )
    rows, columns = shape
    bits = np.frombuffer(base64.b64decode(bits, validate=True), np.uint8)
    if len(bits) != -(-rows * columns // 8):
        raise ValueError(
            f"a mask of shape {text['shape']} needs {-(-rows * columns // 8)} bytes, got "
            f"{len(bits)}."
        )
    return (
        np.unpackbits(bits, count=rows * columns, bitorder="little")
        .astype(bool)
        .reshape(rows, columns)
    )


class MaskedEmbedding(FieldEmbedding):
    """A dense table whose masked elements are zero in every forward pass and have no gradient.

    ``compact()`` gives the same vectors without the zeros.

    Parameters
    ----------
    context : BuildContext
    mask : ndarray of bool (V, d)
        What is kept, rows of all categorical, then all sequence fields.
    """

    def __init__(self, context, mask):
        super().__init__(context)
        if mask.shape != tuple(self.weight.shape):
            raise ValueError(
                f"the mask has shape {mask.shape}, the embedding table of this data "
                f"{tuple(self.weight.shape)}."
            )
        self.context = context
        self.register_buffer("mask", torch.from_numpy(mask), persistent=False)

    def sizes(self):
        """Elements that are kept, by field: int ndarray (n_rows,) of a table, all of a number."""
        return self.by_field(self.mask.sum(1).cpu().numpy(), self.weight.shape[1])

    def unpooled(self, inputs: Inputs):
        if not self.sparse:
            # Once for the whole table, which is small here: cheaper than for every row of the
            # batch.
            self._masked = self.weight * self.mask
        vectors = super().unpooled(inputs)
        self._masked = None
        return vectors

    def lookup(self, ids, rows, fields):
        if self.sparse:
            found = read_rows(self.weight, rows, sparse=True) * self.mask[rows.long()]
            rounding = self.rounding.get("weight")
            return found if rounding is None else rounding(found, rows)
        return read_rows(self._masked, rows, rounding=self.rounding.get("weight"))

    def compact(self):
        """The `PackedEmbedding` of fewest bytes with the same vectors."""
        table = (self.weight.detach() * self.mask).cpu().numpy()
        numeric = {
            name: getattr(self, name).detach().cpu().numpy()
            for name in numeric_shapes(self.context)
        }
        return pack_table(table, self.context, **numeric)
