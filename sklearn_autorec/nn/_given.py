"""A plain table some of whose vectors are given, and may be held as they are."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ._embeddings import FieldEmbedding

__all__ = ["GivenEmbedding", "GivenVectors", "plain_embedding"]


@dataclass(frozen=True, eq=False)
class GivenVectors:
    """Vectors that a table starts with.

    Parameters
    ----------
    field : str
        Name of the field that has the table.
    ids : int64 ndarray (n,)
        Of the values, rising.
    vectors : float32 ndarray (n, d), or None
        None where they are in place: of a table that is read from a file.
    frozen : bool
        Whether they stay as they are in all trainings.
    whole : int64 ndarray (n,) or None
        The ids on the whole table, where ``ids`` are counted anew; None where they are the same.
    """

    field: str
    ids: np.ndarray
    vectors: np.ndarray | None
    frozen: bool
    whole: np.ndarray | None = None

    def on(self, kept):
        """The vectors of those ids that are kept, int64 ndarray, rising, and counted anew."""
        there = np.isin(self.ids, kept)
        return replace(
            self,
            ids=np.searchsorted(kept, self.ids[there]),
            vectors=None if self.vectors is None else self.vectors[there],
            whole=self.ids[there],
        )


class GivenEmbedding(FieldEmbedding):
    """A plain table that starts from given vectors where there are such; inputs -> (B, F, d).

    Frozen rows are put back after every step, whatever has moved them: gradients, decay, moments of
    before. Members all have the same given vectors.

    Parameters
    ----------
    context : BuildContext
        ``given_vectors`` are those of fields by name; others are left out.
    """

    frozen_rows: torch.Tensor

    def __init__(self, context):
        super().__init__(context)
        self.given = [own for own in context.given_vectors if own.field in context.field_names]
        with torch.no_grad():
            for own in self.given:
                if own.vectors is not None:
                    vectors = torch.from_numpy(np.ascontiguousarray(own.vectors, np.float32))
                    vectors = vectors.repeat_interleave(self.members, 0)
                    self.weight[self._rows_of(own, context)] = vectors
        # The vectors are in the table now; a module should not hold them twice.
        self.given = [replace(own, vectors=None) for own in self.given]
        self.register_buffer("frozen_rows", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.place_rows(context)
        self._held = self._place = None

    def _rows_of(self, own, layout):
        """Rows of the weight that belong to given vectors, those of members side by side."""
        tables = dict(zip(layout.field_names, layout.id_tables, strict=False))
        lists = layout.field_names[layout.n_categorical + layout.n_numeric : layout.first_vector]
        tables |= dict(zip(lists, layout.list_tables, strict=True))
        rows = torch.from_numpy(layout.row_starts[tables[own.field]] + own.ids)
        return (rows.unsqueeze(1) * self.members + torch.arange(self.members)).flatten()

    def place_rows(self, layout):
        """Find the frozen rows of tables of other sizes."""
        rows = [self._rows_of(own, layout) for own in self.given if own.frozen]
        rows = torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)
        self.frozen_rows = rows.to(self.weight.device)

    def set_progress(self, t):
        """Note the frozen rows before the first step of a training."""
        if self._held is None and len(self.frozen_rows):
            self._held = self.weight.detach()[self.frozen_rows].clone()
            if self.sparse:
                self._place = torch.full((len(self.weight),), -1, device=self.weight.device)
                self._place[self.frozen_rows] = torch.arange(
                    len(self.frozen_rows), device=self.weight.device
                )

    @torch.no_grad()
    def after_step(self):
        """Put frozen rows back; of a table with row-wise gradients those of the batch."""
        if self._held is None:
            return
        if self._place is None:
            self.weight[self.frozen_rows] = self._held
        elif self.weight.grad is not None:
            rows = self.weight.grad.coalesce().indices()[0]
            number = self._place[rows]
            self.weight[rows[number >= 0]] = self._held[number[number >= 0]]

    @torch.no_grad()
    def compact(self):
        """What serves is the table itself, without what only a training needs."""
        if self._held is not None:
            self.weight[self.frozen_rows] = self._held
        self._held = self._place = None
        return self


def plain_embedding(context):
    """The plain table of a context, with the vectors that it has been given."""
    wanted = {own.field for own in context.given_vectors}
    if wanted & {*context.field_names}:
        return GivenEmbedding(context)
    return FieldEmbedding(context)
