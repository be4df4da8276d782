"""Factorization machine."""

from ..base import Network, register_network
from ..nn import BiInteraction, FieldLinear, FieldNetwork, SumPool


class FMModule(FieldNetwork):
    """First-order term plus all pairs; see `FM`."""

    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or BiInteraction(context)
        self.pool = SumPool(self.interaction.out_dim, context)

    def logits(self, e, inputs):
        return self.linear(inputs) + self.pool.of(self.interaction, e, inputs)


@register_network("fm")
class FM(Network):
    r"""Factorization machine: every pair of fields interacts by an inner product of embeddings.

    .. math:: b + \sum_i w_{x_i} + \sum_{i<j} \langle e_i, e_j \rangle

    With more than one output, the d coordinates of the pair sum are mixed by learned weights per
    output.

    References
    ----------
    .. [1] Rendle, S. "Factorization Machines", ICDM 2010, eq. 1.
       https://doi.org/10.1109/ICDM.2010.127

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.networks import FM
    >>> CTRClassifier(network=FM()).network
    FM()
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "loss")
    supports_members = True

    def build(self, context, parts):
        return FMModule(context, parts)
