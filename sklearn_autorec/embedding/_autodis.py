"""AutoDis: numbers as mixtures of learned vectors."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..nn import TableRows, whole
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval

SLOPE = 0.01  # of the leaky ReLU below zero


class SoftBins(nn.Module):
    """Numbers as mixtures of H meta-embeddings a field; (M * B, 2 F_num) -> (M * B, F_num, d).

    Parameters
    ----------
    context : BuildContext
    n_bins : int
        H.
    temperature, skip, bias, n_top
        See `AutoDis`.
    """

    rounding: dict = {}

    def __init__(self, context, n_bins, temperature, skip, bias, n_top):
        super().__init__()
        n, d, generator = context.n_numeric, context.embedding_dim, context.generator
        self.members, self.n_numeric, self.skip = context.members, n, skip
        self.n_top = None if n_top is None or n_top >= n_bins else n_top
        low, high = context.numeric_range
        # Signed inputs of about unit variance, whatever the scale of the encoder is.
        self.centre, self.stretch = (low + high) / 2, math.sqrt(12) / (high - low)
        each = (self.members,) if self.members > 1 else ()

        def normal(*shape, std=1.0):
            return torch.empty(*each, *shape).normal_(0.0, std, generator=generator)

        slope = normal(n, n_bins)
        self.slope = nn.Parameter(slope)
        # The bends start where numbers are: even over the range, in an order of their own.
        if bias:
            bend = torch.empty(*each, n, n_bins).uniform_(-1.0, 1.0, generator=generator)
            self.bias = nn.Parameter(-slope * bend * math.sqrt(3))
        else:
            self.bias = None
        self.mixing = nn.Parameter(normal(n, n_bins, n_bins, std=n_bins**-0.5))
        self.log_temperature = nn.Parameter(torch.full((*each, n), math.log(temperature)))
        self.meta = nn.Parameter(normal(n, n_bins, d, std=context.embedding_init))
        self.missing = nn.Parameter(normal(n, d, std=context.embedding_init))
        numbers = context.axis("N")
        names = {"slope": -2, "bias": -2, "mixing": -3, "log_temperature": -1, "meta": -3}
        self.field_axes = {name: {dim: numbers} for name, dim in names.items()}
        self.field_axes["missing"] = {-2: numbers}

        first = context.n_categorical
        self.column_names, self.fields = context.field_names, first + np.arange(n)
        self.n_bins = n_bins

    def stored_tables(self):
        """The tables that may be stored in fewer bytes; see `NumericEmbedding`."""
        columns = {"meta": np.repeat(self.fields, self.n_bins), "missing": self.fields}
        return {
            name: lambda own=own: TableRows(np.tile(own, self.members))
            for name, own in columns.items()
        }

    def embedding_parameters(self):
        """The parameters that the embedding's L2 decay applies to."""
        return [self.meta, self.missing]

    def bin_weights(self, numeric):
        """Weights of the bins, q of the paper; (M * B, 2 F_num) -> (M * B, F_num, H), of sum 1."""
        return self._weights(numeric.unflatten(0, (self.members, -1))).flatten(0, 1)

    def _weights(self, numeric):
        def of_members(parameter):
            return parameter if self.members > 1 else parameter.unsqueeze(0)

        x = (numeric[..., : self.n_numeric] - self.centre) * self.stretch  # (M, B, F_num)
        h = x.unsqueeze(-1) * of_members(self.slope).unsqueeze(1)
        if self.bias is not None:
            h = h + of_members(self.bias).unsqueeze(1)
        h = nn.functional.leaky_relu(h, SLOPE)  # eq. 3
        mixed = torch.einsum("mbnh,mnhk->mbnk", h, of_members(self.mixing)) + self.skip * h  # eq. 4
        temperature = of_members(self.log_temperature).exp()[:, None, :, None]
        q = torch.softmax(mixed / temperature, -1)  # eq. 5
        if self.n_top is None:
            return q
        lowest = q.topk(self.n_top, -1).values[..., -1:]
        q = q * (q >= lowest)
        return q / q.sum(-1, keepdim=True)

    def forward(self, numeric):
        numeric = numeric.unflatten(0, (self.members, -1))
        meta, own = (whole(getattr(self, t), self.rounding.get(t)) for t in ("meta", "missing"))
        if self.members == 1:
            meta, own = meta.unsqueeze(0), own.unsqueeze(0)
        e = torch.einsum("mbnh,mnhd->mbnd", self._weights(numeric), meta)
        missing = numeric[..., self.n_numeric :].unsqueeze(-1)
        return torch.lerp(e, own.unsqueeze(1).expand_as(e), missing).flatten(0, 1)


class AutoDis(SearchMethod):
    r"""Numbers as soft mixtures of learned vectors: automatic discretisation.

    Field j has H meta-embeddings, the rows of :math:`M_j`. A number x is scored against them by two
    small layers and becomes the mean of all, weighted by the scores:

    .. math:: h = \mathrm{leaky}(w_j x + b_j), \quad \tilde{x} = W_j h + a h, \quad
              q = \mathrm{softmax}(\tilde{x} / \tau_j), \quad e = q M_j

    Everything is trained with the network. It is a representation, not a search: nothing is
    searched before the training, and the architecture says no more than how many fields there are.

    Parameters
    ----------
    n_bins : int, default=20
        H, meta-embeddings of each field.
    temperature : float, default=0.1
        Where :math:`\tau_j`, which is learned for each field, starts; lower ones start with harder
        bins.
    skip : float, default=0.5
        a, the factor of the connection past the second layer.
    bias : bool, default=True
        Whether the first layer has the bias b; False is the paper. See Notes.
    n_top : int or None, default=None
        Mix only so many meta-embeddings, those of the largest weights, which are scaled to sum to 1
        again. With 1 (the paper's max-pooling) the layers before it learn nothing. None mixes all.

    Notes
    -----
    Without a bias the scores only grow in proportion to x: all numbers of one sign have the same
    most likely bin, and what is between them is a single curve. Bends that lie within the range
    need the bias, which is therefore on.

    Numbers come from the encoder's scale, centred; a missing number has a vector of its own. The
    paper's temperature is made by a further network from the number and statistics of its field;
    here it is a number per field that starts at ``temperature`` and is trained.

    The numbers of first-order terms stay as ``numeric_embedding`` has them. Compare with the
    default, ``numeric_embedding="piecewise"``, which has the fixed bins of the encoder and is
    faster: :math:`2d` against :math:`H^2 + H d` multiplications for each number.

    Of the paper's numbers none is repeated here.

    References
    ----------
    .. [1] Guo, H. et al. "An Embedding Learning Framework for Numerical Features in CTR
       Prediction", KDD 2021, eq. 3-6. https://arxiv.org/abs/2012.08986

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, _ = datasets.make_ctr(500, n_fields=2, pairs=[(0, 1)], n_numeric=1, random_state=0)
    >>> search = embedding.AutoDis(n_bins=8)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=1, random_state=0)
    >>> model.fit(X, y).architecture_["numeric"]["n_numeric"]
    1
    """

    slot = "numeric"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "skip": [Interval(Real, 0, None, closed="left")],
        "bias": ["boolean"],
        "n_top": [None, Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(self, n_bins=20, temperature=0.1, skip=0.5, bias=True, n_top=None):
        """Store the parameters."""

    def search(self, problem):
        n = problem.context.n_numeric
        if not n:
            raise ValueError(
                f"search={self!r} embeds numbers, and the table (or what an earlier search has "
                "kept of it) has no numeric column."
            )
        return {"n_numeric": n}

    def check(self, architecture, context):
        n = architecture.get("n_numeric")
        if type(n) is not int or n != context.n_numeric or n < 1:
            raise ValueError(
                f"n_numeric must be the number of numeric fields, {context.n_numeric}, got {n!r}."
            )

    def realise(self, architecture, context):
        return SoftBins(context, self.n_bins, self.temperature, self.skip, self.bias, self.n_top)
