"""Field-aware factorization machine."""

import dataclasses

from torch import nn

from ..base import Network, register_network
from ..nn import FieldEmbedding, FieldLinear, FieldNetwork, SumPool, pair_index


class FieldAwareEmbedding(FieldEmbedding):
    """A vector for every value and every field that it may meet; inputs -> (B, F, F * d)."""

    def __init__(self, context):
        width = context.axis("F", context.embedding_dim)
        super().__init__(dataclasses.replace(context, embedding_dim=width))
        self.field_axes["weight"][1] = self.field_axes["numeric_weight"][-1] = width
        if self.dense is not None:
            self.dense.field_axes["weight"][-1] = self.dense.field_axes["bias"][-1] = width


class FieldAwareProducts(nn.Module):
    """Inner products <v_i^(j), v_j^(i)> of all pairs; (B, F, F * d) -> (B, P)."""

    def __init__(self, context):
        super().__init__()
        self.n_fields, self.out_dim = context.n_fields, context.axis("P")
        left, right = pair_index(self.n_fields)
        self.register_buffer("flat", left * self.n_fields + right, persistent=False)

    def forward(self, e):
        met = e.unflatten(2, (self.n_fields, -1))  # (B, i, j, d)
        products = (met * met.transpose(1, 2)).sum(3)
        return products.flatten(1).index_select(1, self.flat)


class FFMModule(FieldNetwork):
    """First-order term plus the field-aware pairs; see `FFM`."""

    def __init__(self, context, parts):
        super().__init__(context, {**parts, "embedding": FieldAwareEmbedding(context)})
        self.linear = FieldLinear(context)
        self.products = FieldAwareProducts(context)
        self.pool = SumPool(self.products.out_dim, context)

    def seen_by_gate(self, e):
        return e.unflatten(2, (self.products.n_fields, -1)).mean(2)

    def logits(self, e, inputs):
        return self.linear(inputs) + self.pool(self.products(e))


@register_network("ffm")
class FFM(Network):
    r"""Field-aware factorization machine: a value has a vector for every field that it meets.

    .. math:: b + \sum_i w_{x_i} + \sum_{i<j} \langle v_{x_i}^{(j)}, v_{x_j}^{(i)} \rangle

    So its tables are F times those of the other networks: F ``embedding_dim`` numbers a value,
    which the estimator refuses before training if they would not fit into the memory. The vectors
    may be short, ``embedding_dim=2`` to 4 of the estimator, since each serves one pair of fields.

    Notes
    -----
    The table is part of the network. A vector of a value for every other field is not what methods
    of the slots "embedding", "numeric", "sequence", "interaction" and "body" make or read, (B, F,
    d), so that these slots are not there. Methods of the gate slot see the mean of a value's
    vectors; a gate scales all of them. A search that drops fields drops what the vectors of the
    other fields have for them as well. The vector of a value for its own field is stored and never
    read. With more than one output the products are mixed by learned weights per output.

    References
    ----------
    .. [1] Juan, Y. et al. "Field-aware Factorization Machines for CTR Prediction", RecSys 2016.
       https://doi.org/10.1145/2959100.2959134
       Its formula has no first-order term; later implementations add it, as here.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.networks import FFM
    >>> CTRClassifier(network=FFM(), embedding_dim=4).network.slots
    ('gate', 'loss')
    """

    slots = ("gate", "loss")
    supports_members = True

    def table_width(self, embedding_dim, n_fields):
        return embedding_dim * n_fields

    def build(self, context, parts):
        return FFMModule(context, parts)
