"""What a module needs to know about the table, and what a batch of it looks like."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from ._axes import FieldAxis
from ._layout import FieldLayout


class Inputs(NamedTuple):
    """One batch of the encoded table.

    ids : int32 (B, F_cat), local to each field: 0 missing, 1 unknown or rare, 2.. by frequency
    numeric : float32 (B, 2 * F_num + n), scaled values (0 where missing), then 0/1 missing
    indicators, then the numbers of vector fields, each followed by a missing indicator
    sequences : int32 (B, sum of lengths), items of all sequence columns side by side, 0 is padding
    gates : float (B, F) or (1, F), or None; factors of the fields, which every table that is read
    with them applies
    numbers : pairs of a module and its vectors (B, F_num, width) of the numbers, where these were
    made beforehand"""

    ids: torch.Tensor
    numeric: torch.Tensor
    sequences: torch.Tensor
    gates: torch.Tensor | None = None
    numbers: tuple = ()


@dataclass(frozen=True)
class BuildContext(FieldLayout):
    """The facts about a table and a task from which networks and searchable parts are built: the
    `FieldLayout` of the table, and more.

    Parameters
    ----------
    field_names : tuple of str, length F
        Categorical fields first, then numeric, sequence and vector fields: the order of the F axis.
    n_ids : tuple of int, length F_cat
        Number of ids per categorical field, the missing and the unknown id included.
    n_numeric : int
        Number of numeric fields, F_num.
    sequences : tuple of (int, int)
        Number of ids and length of each sequence field.
    embedding_dim : int
        d, the width of an embedding.
    n_outputs : int
        C, the number of logits per row.
    generator : torch.Generator
        The only source of initial weights; lives on the CPU.
    counts : tuple of ndarray of shape (n_ids,)
        Training rows per id of each categorical field.
    output_bias : tuple of float, length C
        Logits of the base rate (the mean rating in regression), where the output bias starts.
    sparse_gradients : bool
        Whether embedding tables hand row-wise gradients to the optimiser.
    embedding_init : float
        Standard deviation of initial embeddings.
    members : int
        M, independent members in one network, which then takes M * B rows, those of one member
        after those of another. Tables and layers with weights have one set a member.
    numeric_embedding : {"piecewise", "periodic", "linear"}
        How numbers become vectors; see `NumericEmbedding`.
    n_numeric_bins : int
        T: steps of the piecewise-linear embedding, or frequencies of the periodic one.
    numeric_range : (float, float)
        Lowest and highest of the scaled values, where the scale has such; else between which most
        of them lie.
    storage : str, dict of column name to str, or None
        How tables will be stored after the training; see `sklearn_autorec.CTRClassifier`.
    given_vectors : tuple of GivenVectors
        With which plain embedding tables of some fields start.
    reference_loss : nn.Module or None
        The estimator's own loss, logits (B, C), y (B,) -> (B,): by it validation rows are judged,
        and a part in the loss slot may start from it. None where nothing is trained.
    """

    embedding_dim: int = 16
    n_outputs: int = 1
    generator: torch.Generator = field(default_factory=torch.Generator, repr=False, compare=False)
    counts: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)
    output_bias: tuple[float, ...] = ()
    sparse_gradients: bool = False
    embedding_init: float = 0.01
    members: int = 1
    numeric_embedding: str = "linear"
    n_numeric_bins: int = 24
    numeric_range: tuple[float, float] = (-(3**0.5), 3**0.5)
    storage: str | dict | None = field(default=None, hash=False)
    given_vectors: tuple = field(default=(), repr=False, compare=False)
    reference_loss: torch.nn.Module | None = field(default=None, repr=False, compare=False)

    def axis(self, *factors):
        """The length of an axis with something for every field, pair or value; see `FieldAxis`.

        Parameters
        ----------
        *factors : int or str
            Numbers, and "F" for fields, "P" for pairs, "P3" for triples (and so on), "V" for the
            rows of tables, "N" for numeric, "L" for sequence and "D" for vector fields, "W" for
            the numbers of the latter; the last runs fastest. ``axis("F", d)`` is the length of
            flattened embeddings.

        Returns
        -------
        FieldAxis
            An int.
        """
        return FieldAxis.of(self, *factors)
