"""The order of fields, of the rows of their tables, and of their columns in a batch."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class FieldLayout:
    """Categorical fields first, then numeric, sequence and vector fields: the order of the F axis.

    Of these, categorical and sequence fields have tables, whose rows stand one below the other in
    the same order.

    Parameters
    ----------
    field_names : tuple of str, length F
    n_ids : tuple of int, length F_cat
        Number of ids per categorical field.
    n_numeric : int
        F_num.
    sequences : tuple of (int, int)
        Number of ids and length of each sequence field.
    shared : tuple of (int or None)
        For each sequence field the field whose vocabulary and table it shares, by its position on
        the F axis: a categorical one, or another sequence field. None where it has its own; () is
        None for all.
    shared_ids : tuple of (int or None)
        The same for each categorical field, which can share those of another categorical field.
    vectors : tuple of int
        Length of each vector field.
    """

    field_names: tuple[str, ...]
    n_ids: tuple[int, ...]
    n_numeric: int = 0
    sequences: tuple[tuple[int, int], ...] = ()
    shared: tuple[int | None, ...] = dataclasses.field(default=(), kw_only=True)
    shared_ids: tuple[int | None, ...] = dataclasses.field(default=(), kw_only=True)
    vectors: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)

    @classmethod
    def of_encoder(cls, encoder, **others):
        """The layout of what a fitted encoder gives; further fields of a subclass by name."""
        n_ids, n_numeric = tuple(int(n) for n in encoder.n_ids_), len(encoder.numeric_)
        sequences = tuple((int(n), encoder.max_length) for n in encoder.sequence_n_ids_)
        owners, first = getattr(encoder, "shared_fields_", {}), len(n_ids) + n_numeric
        return cls(
            tuple(str(name) for name in encoder.field_names_),
            n_ids,
            n_numeric,
            sequences,
            shared=tuple(owners.get(first + k) for k in range(len(sequences))),
            shared_ids=_or_empty(owners.get(f) for f in range(len(n_ids))),
            vectors=tuple(getattr(encoder, "vector_lengths_", ())),
            **others,
        )

    @property
    def n_categorical(self):
        """F_cat."""
        return len(self.n_ids)

    @property
    def n_fields(self):
        """F: every categorical, numeric, sequence and vector field."""
        return self.first_vector + len(self.vectors)

    @property
    def first_vector(self):
        """Position of the first vector field, where there is one: fields that are none."""
        return len(self.n_ids) + self.n_numeric + len(self.sequences)

    @property
    def sharing(self):
        """``shared`` with an entry for every sequence field."""
        return self.shared or (None,) * len(self.sequences)

    @property
    def list_targets(self):
        """For each sequence field the categorical field whose table it reads, or None."""
        n = self.n_categorical
        return tuple(owner if owner is not None and owner < n else None for owner in self.sharing)

    @property
    def sharers(self):
        """Fields that read the table of another field, and that field: list of pairs of positions,
        rising.
        """
        lists = enumerate(self.sharing, self.n_categorical + self.n_numeric)
        return [
            (f, owner) for f, owner in (*enumerate(self.shared_ids), *lists) if owner is not None
        ]

    @property
    def table_fields(self):
        """Positions of the fields with a table of their own, rising, list of int."""
        first, readers = self.n_categorical + self.n_numeric, dict(self.sharers)
        with_ids = (*range(self.n_categorical), *range(first, self.first_vector))
        return [f for f in with_ids if f not in readers]

    @property
    def id_tables(self):
        """Number of the table of each categorical field, among ``table_fields``: list of int."""
        return self._tables(range(self.n_categorical))

    @property
    def list_tables(self):
        """Number of the table of each sequence field, among ``table_fields``: list of int."""
        return self._tables(range(self.n_categorical + self.n_numeric, self.first_vector))

    def _tables(self, fields):
        numbers, owners = {f: k for k, f in enumerate(self.table_fields)}, dict(self.sharers)
        return [numbers[owners.get(f, f)] for f in fields]

    @property
    def table_sizes(self):
        """Rows in the table of each of ``table_fields``, list of int."""
        n, first = self.n_categorical, self.n_categorical + self.n_numeric
        return [self.n_ids[f] if f < n else self.sequences[f - first][0] for f in self.table_fields]

    @property
    def n_rows(self):
        """Rows of all tables."""
        return sum(self.table_sizes)

    @property
    def row_starts(self):
        """Where the rows of each of ``table_fields`` begin, and where the last ends: int64 ndarray
        of one more than there are tables.
        """
        return np.cumsum([0, *self.table_sizes], dtype=np.int64)

    @property
    def sequence_lengths(self):
        """Columns of each sequence field in ``Inputs.sequences``, list of int."""
        return [length for _, length in self.sequences]

    def by_kind(self, fields):
        """Fields as numbers within their kind.

        Parameters
        ----------
        fields : iterable of int
            Positions on the F axis.

        Returns
        -------
        categorical, numeric, sequence : list of int
            Each counted from 0, in the order given.
        """
        fields, n, first_list = (
            list(fields),
            self.n_categorical,
            self.n_categorical + self.n_numeric,
        )
        return (
            [f for f in fields if f < n],
            [f - n for f in fields if n <= f < first_list],
            [f - first_list for f in fields if first_list <= f < self.first_vector],
        )

    def vectors_of(self, fields):
        """Those of some fields that are vectors, counted from 0, in the order given."""
        return [int(f) - self.first_vector for f in fields if f >= self.first_vector]

    def vector_inputs(self, vectors):
        """Of some vector fields, the numbers of all vector fields that belong to them, list of int:
        each has its own and a missing indicator.
        """
        starts = np.cumsum([0, *(length + 1 for length in self.vectors)]).tolist()
        return [c for j in vectors for c in range(starts[j], starts[j + 1])]

    def columns(self, fields):
        """The columns of ``Inputs.ids``, ``.numeric`` and ``.sequences`` that belong to some
        fields: three lists of int.
        """
        fields = list(fields)
        categorical, numbers, lists = self.by_kind(fields)
        starts = np.cumsum([0, *self.sequence_lengths]).tolist()
        inputs = self.vector_inputs(self.vectors_of(fields))
        return (
            categorical,
            [  # values, then missing indicators, then vectors
                *numbers,
                *(j + self.n_numeric for j in numbers),
                *(2 * self.n_numeric + c for c in inputs),
            ],
            [c for k in lists for c in range(starts[k], starts[k + 1])],
        )

    def of_fields(self, fields, **others):
        """The layout of some fields, rising; other changes by name, as ``dataclasses.replace``."""
        fields = list(fields)
        categorical, numbers, lists = self.by_kind(fields)
        # Where the other field is gone each that shares its table has one for itself.
        places = {f: k for k, f in enumerate(fields)}
        shared = (places.get(self.sharing[k]) for k in lists)
        shared_ids = (places.get(self.shared_ids[f]) for f in categorical if self.shared_ids)
        changes = {
            "field_names": tuple(self.field_names[f] for f in fields),
            "n_ids": tuple(self.n_ids[f] for f in categorical),
            "n_numeric": len(numbers),
            "sequences": tuple(self.sequences[k] for k in lists),
            "shared": _or_empty(shared),
            "shared_ids": _or_empty(shared_ids),
            "vectors": tuple(self.vectors[j] for j in self.vectors_of(fields)),
        }
        return dataclasses.replace(self, **{**changes, **others})

    def without_numbers(self):
        """The layout of all fields but the numeric ones."""
        first, n = self.n_categorical, self.n_numeric
        return self.of_fields([*range(first), *range(first + n, self.n_fields)])

    def without_vectors(self):
        """The layout of all fields but the vectors."""
        return self.of_fields(range(self.first_vector)) if self.vectors else self


def _or_empty(owners):
    """A tuple of the owners, empty where all are None."""
    owners = tuple(owners)
    return () if all(owner is None for owner in owners) else owners
