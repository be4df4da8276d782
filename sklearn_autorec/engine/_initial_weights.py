"""Initial weights from another fitted model: its columns by name, its ids by value."""

import copy
import dataclasses

import numpy as np
import torch

from ..nn import FieldLayout, Members, in_float32, pair_index, plain_loss
from ..nn._axes import count, tuple_order

__all__ = ["InitialWeights", "initial_weights"]

LAYOUT = (
    "field_names",
    "n_ids",
    "n_numeric",
    "sequences",
    "shared",
    "shared_ids",
    "vectors",
)
FIRST_VALUE = 2  # ids below are those of missing and of unknown values, which all tables have


@dataclasses.dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights of a network as far as another model has them.

    Parameters
    ----------
    state : dict of str to Tensor
        All tensors of the network by name, in its shapes. What the other model does not know is as
        it was.
    known : dict of str to bool Tensor
        Which elements come from the other model; they broadcast to those of ``state``.
    new_columns : list of str
        Fields that the other model does not have.
    new_values : dict of str to int
        Number of values of each other field that it does not know.
    """

    state: dict
    known: dict
    new_columns: list
    new_values: dict


def initial_weights(source, encoder, context, module):
    """Bring the weights of a fitted model to a network on another table.

    Fields are matched by name, rows of tables by the values that they stand for, all other weights
    by name and shape. Missing and unknown values have rows in every model, which are taken over.
    Fields and values that only the network has keep its own weights; those that only the source has
    are left out. A number is scaled by the encoder of its own table: what is taken over means the
    same place on that scale.

    Parameters
    ----------
    source : CTRClassifier or RatingRegressor
        Fitted, with the same kind of network; it stays as it is.
    encoder : FieldEncoder or FrozenEstimator of one
        Fitted on the table of the network.
    context : BuildContext
        Of that table, of one member.
    module : nn.Module
        The network. It declares by ``field_axes`` which axes of its weights have something for
        every field or value (see `Network`).

    Returns
    -------
    InitialWeights

    Raises
    ------
    ValueError
        If the source is not fitted, has no network, several members, or another loss; if it, or the
        context, leaves out fields of its table; if no field is the same, or a field is of another
        kind; if a column is hashed in one table in another way than in the other; or if a weight is
        missing or has another shape. The message says what was given and what is needed.
    """
    theirs = _network_of(source, context)
    own_encoder, their_encoder = (getattr(e, "estimator", e) for e in (encoder, source.encoder_))
    layout, their_layout = map(FieldLayout.of_encoder, (own_encoder, their_encoder))
    if any(getattr(layout, name) != getattr(context, name) for name in LAYOUT):
        raise ValueError(
            f"source={source!r:.100} cannot give weights to a network on a part of the table: "
            f"another search has dropped fields or values, or embeds the numbers. Search without "
            f"it."
        )
    origins = _Origins(layout, their_layout, own_encoder, their_encoder)
    declared = {
        f"{prefix}.{name}".lstrip("."): axes
        for prefix, m in module.named_modules()
        for name, axes in getattr(m, "field_axes", {}).items()
    }
    extra = sorted(theirs.keys() - module.state_dict().keys())
    if extra:
        raise ValueError(
            f"source={source!r:.100} has weights that this network has not: {extra[:5]}. Fit both "
            f"with the same network and sizes."
        )
    state, known = {}, {}
    for name, own in module.state_dict().items():
        axes = {dim % own.ndim: axis for dim, axis in declared.get(name, {}).items()}
        wanted = list(own.shape)
        places = {dim: origins.of(axis) for dim, axis in axes.items()}
        for dim, (_, length) in places.items():
            wanted[dim] = length
        given = theirs.get(name)
        if given is None or list(given.shape) != wanted:
            told = "no such weight" if given is None else f"it of shape {tuple(given.shape)}"
            raise ValueError(
                f"source={source!r:.100} must have the network of the model that begins with its "
                f"weights: {name!r} has the shape {tuple(wanted)} there, the source has {told}. "
                f"Fit both with the same network and sizes."
            )
        mask, taken = torch.ones((1,) * own.ndim, dtype=torch.bool), given.detach().to(own.device)
        for dim, (place, _) in places.items():
            taken = taken.index_select(dim, place.clamp(min=0).to(own.device))
            mask = mask & (place >= 0).view([-1 if k == dim else 1 for k in range(own.ndim)])
        known[name] = mask.to(own.device)
        state[name] = torch.where(known[name], taken, own.detach())
    return InitialWeights(state, known, origins.new_columns, origins.new_values)


def _network_of(source, context):
    """The tensors of a fitted model by name, refused if they could not serve."""
    for name in ("encoder_", "net_", "architecture_"):
        if not hasattr(source, name):
            raise ValueError(
                f"source must be a fitted CTRClassifier or RatingRegressor, got {source!r:.200}, "
                f"which has no {name}."
            )
    if source.net_ is None:
        raise ValueError(
            f"source={source!r:.200} has seen a single class, so that it has no network."
        )
    module = source.net_.module_
    if isinstance(module, Members):
        raise ValueError(
            f"source={source!r:.100} has members={source.members}; weights can be taken over from "
            f"a model of members=1."
        )
    if getattr(module, "selection", None) is not None:
        raise ValueError(
            f"source={source!r:.100} has dropped fields of its table by its search; weights can "
            f"be taken over from a model of all fields."
        )
    loss = type(plain_loss(source.net_.criterion_))
    own_loss = type(plain_loss(context.reference_loss))
    if context.reference_loss is not None and loss is not own_loss:
        raise ValueError(
            f"source={source!r:.100} was trained by the loss {loss.__name__}, this model by "
            f"{own_loss.__name__}; both must predict the same kind of target."
        )
    architecture = source.architecture_
    for name in ("embedding_dim", "numeric_embedding"):
        theirs, own = architecture[name], getattr(context, name)
        if theirs != own and (name == "embedding_dim" or context.n_numeric):
            raise ValueError(
                f"source={source!r:.100} has {name}={theirs!r}, this model {own!r}; set "
                f"{name}={theirs!r}."
            )
    return in_float32(copy.deepcopy(module)).state_dict()


class _Origins:
    """Where the elements of axes come from.

    Parameters
    ----------
    own, theirs : FieldLayout
    own_encoder, their_encoder : FieldEncoder
        Fitted.
    """

    def __init__(self, own, theirs, own_encoder, their_encoder):
        self.own, self.theirs = own, theirs
        self.new_columns, self.new_values = [], {}
        their_kinds = dict(zip(theirs.field_names, _kinds(theirs), strict=True))
        self.fields = np.full(own.n_fields, -1)
        for f, (name, kind) in enumerate(zip(own.field_names, _kinds(own), strict=True)):
            if name not in their_kinds:
                self.new_columns.append(name)
            elif their_kinds[name] != kind:
                raise ValueError(
                    f"column {name!r} holds {kind} here and {their_kinds[name]} in the table of "
                    f"the source; say by FieldEncoder(categorical_features=..., "
                    f"sequence_features=...) what it is, the same in both."
                )
            else:
                self.fields[f] = theirs.field_names.index(name)
        if not (self.fields >= 0).any():
            raise ValueError(
                f"the source knows none of the columns {list(own.field_names)!r:.200}; it was "
                f"fitted on {list(theirs.field_names)!r:.200}."
            )
        self.by_factor = {
            "F": self.fields,
            "N": self._numbers(),
            "L": self._lists(),
            "V": self._rows(own_encoder, their_encoder),
        }
        self.by_factor["D"], self.by_factor["W"] = self._vectors()

    def _numbers(self):
        """Numeric fields by their number among those of the source."""
        n = self.own.n_categorical
        fields = self.fields[n : n + self.own.n_numeric]
        return np.where(fields >= 0, fields - self.theirs.n_categorical, -1)

    def _lists(self):
        """List fields by their number among those of the source.

        Raises
        ------
        ValueError
            If a field shares the vocabulary of another one in one of the tables alone.
        """
        for f, field in enumerate(self.fields):
            owners = [
                None if owner is None else layout.field_names[owner]
                for layout, owner in (
                    (self.own, dict(self.own.sharers).get(f)),
                    (self.theirs, dict(self.theirs.sharers).get(field)),
                )
            ]
            if field >= 0 and owners[0] != owners[1]:
                raise ValueError(
                    f"column {self.own.field_names[f]!r} shares the vocabulary of "
                    f"{owners[0]!r} here and of {owners[1]!r} in the table of the source (None: it "
                    f"has its own); let both encoders share alike."
                )
        first, their_first = (x.n_categorical + x.n_numeric for x in (self.own, self.theirs))
        fields = self.fields[first : self.own.first_vector]
        return np.where(fields >= 0, fields - their_first, -1)

    def _vectors(self):
        """Vector fields, and their numbers, by those of the source."""
        fields = self.fields[self.own.first_vector :]
        vectors = np.where(fields >= 0, fields - self.theirs.first_vector, -1)
        inputs = []
        for length, j in zip(self.own.vectors, vectors.tolist(), strict=True):
            inputs += self.theirs.vector_inputs([j]) if j >= 0 else [-1] * (length + 1)
        return vectors, np.array(inputs, dtype=np.int64)

    def _rows(self, own_encoder, their_encoder):
        """Rows of all tables by the value that they stand for."""
        own_tables = _vocabularies(own_encoder, self.own)
        their_tables = _vocabularies(their_encoder, self.theirs)
        starts = dict(zip(self.theirs.table_fields, self.theirs.row_starts[:-1], strict=True))
        rows = []
        for f, vocabulary in own_tables.items():
            origin = int(self.fields[f])
            if origin < 0:
                rows.append(np.full(vocabulary.n_ids, -1))
                continue
            name = self.own.field_names[f]
            ids = _ids_by_value(vocabulary, their_tables[origin], name)
            self.new_values[name] = int((ids < 0).sum())
            rows.append(np.where(ids >= 0, ids + starts[origin], -1))
        return np.concatenate(rows) if rows else np.zeros(0, np.int64)

    def of(self, axis):
        """Of every element of an axis the one of the source, int64, -1 where there is none; and the
        length of the axis there.
        """
        elements, start = [], 0
        for run in axis.runs:
            place, length = np.zeros(1, np.int64), 1
            for factor in run:
                own, n = self.of_factor(factor)
                joined = place[:, None] * n + own
                both = (place[:, None] >= 0) & (own >= 0)
                place, length = np.where(both, joined, -1).ravel(), length * n
            elements.append(np.where(place >= 0, place + start, -1))
            start += length
        return torch.from_numpy(np.concatenate(elements)), start

    def of_factor(self, factor):
        if isinstance(factor, int):
            return np.arange(factor), factor
        order = tuple_order(factor)
        if order is not None and factor not in self.by_factor:
            their_tuples = pair_index(self.theirs.n_fields, order).T.tolist()
            numbers = {tuple(fields): k for k, fields in enumerate(their_tuples)}
            # Tuples whose fields come in another order begin anew: their weights may be directed.
            self.by_factor[factor] = np.array(
                [
                    numbers.get(tuple(self.fields[fields].tolist()), -1)
                    for fields in pair_index(self.own.n_fields, order).T.tolist()
                ],
                dtype=np.int64,
            )
        return self.by_factor[factor], count(factor, self.theirs)


def _kinds(layout):
    """What every field holds, in words."""
    kinds = ["ids"] * layout.n_categorical + ["numbers"] * layout.n_numeric
    kinds += ["lists"] * len(layout.sequences)
    return [*kinds, *(f"vectors of {length}" for length in layout.vectors)]


def _vocabularies(encoder, layout):
    """The vocabulary of every table, by the field that it belongs to, in the order of tables."""
    schema, first_list = encoder._schema, layout.n_categorical + layout.n_numeric
    parts = dict(enumerate(schema.categorical)) | dict(enumerate(schema.sequence, first_list))
    return {f: encoder._fields[parts[f]] for f in layout.table_fields}


def _ids_by_value(own, theirs, name):
    """The id that every id of a vocabulary has in another one, -1 where that has none."""
    ids = np.full(own.n_ids, -1, np.int64)
    ids[:FIRST_VALUE] = range(FIRST_VALUE)
    if own.n_hash_buckets != theirs.n_hash_buckets:
        raise ValueError(
            f"column {name!r} is hashed into {own.n_hash_buckets} buckets here and into "
            f"{theirs.n_hash_buckets} in the table of the source (0: not hashed); set "
            f"hash_threshold and n_hash_buckets of both encoders so that both are hashed alike."
        )
    if own.n_hash_buckets:
        ids[FIRST_VALUE:] = np.arange(FIRST_VALUE, own.n_ids)
        return ids
    values = own.categories
    if len(values):
        found, _, _ = theirs.ids(np.arange(len(values)), values, own.seen)
        ids[FIRST_VALUE:] = np.where(found >= FIRST_VALUE, found, -1)
    return ids
