"""FiBiNET: squeezed fields and bilinear pairs."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldLinear, FieldNetwork, linear
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._deep import DeepNetwork


class FieldExcitation(nn.Module):
    """Factors of the fields from the means of their vectors, act(W_2 ReLU(W_1 z)); (B, F, d) -> (B,
    F).
    """

    def __init__(self, context, n_hidden, activation):
        super().__init__()
        n_fields, options = context.axis("F"), {"bias": False, "members": context.members}
        self.squeeze = linear(n_fields, n_hidden, context.generator, **options)
        self.excite = linear(n_hidden, n_fields, context.generator, **options)
        self.activation = activation

    def forward(self, e):
        excited = self.excite(torch.relu(self.squeeze(e.mean(2))))
        return torch.sigmoid(excited) if self.activation == "sigmoid" else torch.relu(excited)


class BilinearPairs(nn.Module):
    """Vectors (e_i W) o e_j of all pairs of fields i < j; (B, F, d) -> (B, P * d).

    Parameters
    ----------
    context : BuildContext
    matrices : {"all", "each", "interaction"}
        One W for all pairs, one for each left field, or one for each pair.
    """

    def __init__(self, context, matrices):
        super().__init__()
        d, n, self.members = context.embedding_dim, context.n_fields, context.members
        axes = {"all": (), "each": (context.axis("F"),), "interaction": (context.axis("P"),)}
        own = axes[matrices]
        each = (self.members, *own) if self.members > 1 else own
        # A matrix is drawn by its own size, whatever the number of pairs.
        weight = torch.empty(*each, d, d).normal_(0, d**-0.5, generator=context.generator)
        self.weight = nn.Parameter(weight)
        if own:
            self.field_axes = {"weight": {-3: own[0]}}
        firsts = [i * n - i * (i + 1) // 2 for i in range(n)]  # number of the pair (i, i + 1)
        self.rows = {
            "all": [slice(0, 1)] * n,
            "each": [slice(i, i + 1) for i in range(n)],
            "interaction": [slice(start, start + n - 1 - i) for i, start in enumerate(firsts)],
        }[matrices]
        self.out_dim = context.axis("P", d)

    def forward(self, e):
        (n, d), members = e.shape[1:], self.members
        weights = self.weight.reshape(members, -1, d, d)
        # Field by field: all that stands left of its partners is one product of matrices.
        pairs = [
            torch.cat([self._left(*own, i) for own in zip(e.chunk(members), weights, strict=True)])
            * e[:, i + 1 :]
            for i in range(n - 1)
        ]
        return torch.cat([p.flatten(1) for p in pairs] or [e.new_zeros(len(e), 0)], 1)

    def _left(self, e, weights, i):
        """e_i W for the partners of field i, or for any of them where W is the same."""
        return nn.functional.linear(e[:, i], weights[self.rows[i]].flatten(0, 1)).unflatten(
            1, (-1, e.shape[2])
        )


class SqueezedPairs(nn.Module):
    """Bilinear pairs of the embeddings, then of the embeddings times their factors; (B, F, d) ->
    (B, 2 * P * d).
    """

    def __init__(self, context, network):
        super().__init__()
        self.excitation = FieldExcitation(context, network.squeeze_units, network.excitation)
        self.pairs = BilinearPairs(context, network.matrices)
        self.squeezed_pairs = BilinearPairs(context, network.matrices)
        self.out_dim = self.pairs.out_dim + self.squeezed_pairs.out_dim

    def forward(self, e, inputs=None):
        squeezed = e * self.excitation(e).unsqueeze(2)
        return torch.cat([self.pairs(e), self.squeezed_pairs(squeezed)], 1)


class FiBiNETModule(FieldNetwork):
    """First-order term, and a perceptron on bilinear pairs; see `FiBiNET`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or SqueezedPairs(context, network)
        self.head = None
        if self.interaction.out_dim or "head" in parts:  # a field alone has no pair
            self.head = network.head(context, parts, self.interaction.out_dim)

    def logits(self, e, inputs):
        logits = self.linear(inputs)
        return logits if self.head is None else logits + self.head(self.interaction(e, inputs))


@register_network("fibinet")
@inherits_entries
class FiBiNET(DeepNetwork):
    r"""FiBiNET: a perceptron on bilinear products of pairs, of fields as they are and of fields
    times their importance.

    .. math:: p_{ij} = (e_i W_{ij}) \odot e_j, \quad
              a = \mathrm{act}(W_2 \, \mathrm{ReLU}(W_1 z)), \quad
              z_i = \frac{1}{d} \sum_k e_{ik}

    The perceptron takes p of all pairs i < j, of the embeddings and, with matrices of their own, of
    :math:`a_i e_i`. A first-order term is added.

    Parameters
    ----------
    matrices : {"interaction", "each", "all"}, default="interaction"
        A matrix W for each pair, for each left field, or one for all.
    squeeze_units : int, default=8
        Hidden units of the importances.
    excitation : {"sigmoid", "relu"}, default="sigmoid"
        Activation of the importances. With "relu", as in the paper, a field may be off for all rows
        from the start, and then stays so.
    {hidden_units to batch_norm}

    Notes
    -----
    The matrix acts on the left field, so that the order of the columns matters a little. The
    perceptron has F (F - 1) d inputs: for many fields it is large.

    The paper has F / 3 hidden units of the importances. Here their number is given, so that it is
    the same where a search drops fields.

    A part in the interaction slot stands in place of all pairs, those of the importances included.

    References
    ----------
    .. [1] Huang, T., Zhang, Z. and Zhang, J. "FiBiNET: Combining Feature Importance and Bilinear
       Feature Interaction for Click-Through Rate Prediction", RecSys 2019.
       https://arxiv.org/abs/1905.09433

    Examples
    --------
    >>> from sklearn_autorec.networks import FiBiNET
    >>> FiBiNET(matrices="all", hidden_units=(64,)).matrices
    'all'
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "matrices": [StrOptions({"interaction", "each", "all"})],
        "squeeze_units": [Interval(Integral, 1, None, closed="left")],
        "excitation": [StrOptions({"sigmoid", "relu"})],
    }

    @stores_parameters
    def __init__(
        self,
        matrices="interaction",
        squeeze_units=8,
        excitation="sigmoid",
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return FiBiNETModule(context, parts, self)
