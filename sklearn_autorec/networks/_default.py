"""The network of ``network="auto"``."""

from ..base import register_network
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ._deepfm import DeepFM


@register_network("auto")
@inherits_entries
class DefaultNetwork(DeepFM):
    """The network that estimators use when none is asked for: a `DeepFM` of moderate size.

    With it, parameters of the estimators that are left at None have values which were chosen
    together with its sizes, and parts beside the network are on (see `CTRClassifier`).

    Parameters
    ----------
    hidden_units : tuple of int, default=(128, 64)
        Units of each hidden layer.
    dropout : float in [0, 1), default=0.3
        Share of hidden units dropped at a training step.
    {batch_norm}
    n_cross_layers : int, default=0
        Cross layers beside the perceptron; see `DeepFM`.
    cross_rank : int or None, default=16
        Rank of the cross layers' matrices.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> CTRClassifier().set_params(network__hidden_units=(64,)).network
    DefaultNetwork(hidden_units=(64,))
    """

    supports_members = True
    is_default = True

    @stores_parameters
    def __init__(
        self, hidden_units=(128, 64), dropout=0.3, batch_norm=True, n_cross_layers=0, cross_rank=16
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return super().build(context, parts)
