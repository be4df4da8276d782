"""AutoFT: which fields and layers of a pre-trained model are fine-tuned, and which stay."""

import dataclasses

import torch

from ..base import SearchMethod, describe, is_described, network_of
from ..base._constraints import constraints_of
from ..engine._building import build_module
from ..engine._initial_weights import initial_weights
from ..nn import FieldEmbedding, FieldNetwork, check_temperatures
from ..utils._parameters import stores_parameters
from ..utils._sklearn import HasMethods
from ._frozen_or_tuned import (
    FixedPolicy,
    FrozenOrTuned,
    NetworkBody,
    SampledPolicy,
    SearchedBody,
    chosen_weights,
    groups_of,
)

SLOTS = ("embedding", "body")
OWN_KEYS = {"network", "embedding_dim", "numeric_embedding"}  # of a model without a search


class AutoFT(SearchMethod):
    r"""Begin with a model of another table, and choose what of it is fine-tuned (AutoFT).

    The source was trained where rows are many, this model where they are few. Each field, and each
    layer behind the embeddings, keeps the weights :math:`\theta^s` of the source or takes a copy
    :math:`\theta^t` that is trained. A gate :math:`z_g` of every group g, drawn once a step by the
    straight-through Gumbel-softmax, decides which of them count:

    .. math:: \theta_g = z_g \theta^t_g + (1 - z_g) \theta^s_g, \qquad z_g \in \{0, 1\}

    The search trains :math:`\theta^t` on most of the rows and the logits of the gates on the
    others (bi-level, first order). A group is then tuned if its gate is more likely open than not.
    With these gates the fine-tuning begins anew from the source, on all rows. What comes out
    serves; no training follows (``retrain`` is "none").

    Parameters
    ----------
    source : CTRClassifier or RatingRegressor
        A fitted model with the same network, sizes and kind of target, and without a search of its
        own. Needed by ``fit``, and by nothing after it: copies and pickles of a fitted estimator,
        architectures and model files have nothing of it. ``clone`` hands it on as it is. The
        default None is for these; to search with it is an error.
    arch_lr : float, default=0.05
        Learning rate of the policy (Adam).
    temperature : (float, float), default=(1.0, 0.3)
        First and last temperature of the Gumbel-softmax.
    warmup : float in [0, 1), default=0.2
        Share of the search before the policy moves; copies that are as they were say nothing.
    search_fraction : float in (0, 1), default=0.5
        Share of the training rows by which the policy is trained.

    Notes
    -----
    Fields are matched by the names of columns, their ids by values, numbers by their place on the
    scale of their own table; give ``encoder=FrozenEstimator(source.encoder_)`` where scales should
    be those of the source. Values and columns that the source does not know are always trained, as
    are the bias of a first-order term and others in front of the first layer. Columns that only the
    source has are left out. Classes are matched by their order.

    ``architecture_["embedding"]`` has ``tuned_fields`` (positions) and ``tune_probabilities`` of
    all fields; ``architecture_["body"]`` has ``layers``, ``tuned_layers`` and
    ``tune_probabilities`` of these. Either way what serves is one network of the usual size, not
    two. Batch statistics begin with those of the source and follow the rows of this table.

    ``from_architecture`` trains the same network from new weights: an architecture holds none.
    Both parts of the search, and the fine-tuning, have ``search_epochs`` epochs. In the search
    tables are updated whole, however large they are.

    The paper decides anew for each row, by networks that read it, and serves both copies. Here the
    decision is one of the whole table, since few rows are what the method is for. That the policy
    has rows of its own, the grouping of weights into layers, and all defaults are ours: neither
    code nor settings of the paper were at hand.

    References
    ----------
    .. [1] Yang, X., Liu, Q., Su, R., Tang, R., Liu, Z., He, X. "AutoFT: Automatic Fine-Tune for
       Parameters Transfer Learning in Click-Through Rate Prediction", 2021.
       https://arxiv.org/abs/2106.04873
    .. [2] Jang, E., Gu, S., Poole, B. "Categorical Reparameterization with Gumbel-Softmax", ICLR
       2017. https://arxiv.org/abs/1611.01144

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, transfer
    >>> X, y, _ = datasets.make_ctr(1000, n_fields=3, cardinality=5, pairs=[(0, 1)], random_state=0)
    >>> options = {"network": "fm", "embedding_dim": 4, "max_epochs": 2, "random_state": 0}
    >>> source = CTRClassifier(**options).fit(X[:800], y[:800])
    >>> model = CTRClassifier(search=transfer.AutoFT(source), **options).fit(X[800:], y[800:])
    >>> len(model.architecture_["embedding"]["tune_probabilities"])
    3
    """

    slots = SLOTS
    distributes = True
    retrain = "none"
    fit_only = ("source",)
    _parameter_constraints = {
        "source": [None, HasMethods(["fit", "predict"])],
        **constraints_of("arch_lr", "temperature", "warmup", "search_fraction"),
    }

    @stores_parameters
    def __init__(
        self, source=None, arch_lr=0.05, temperature=(1.0, 0.3), warmup=0.2, search_fraction=0.5
    ):
        """Store the parameters."""

    def search(self, problem):
        transfer = self._begin(problem)
        context, layers = problem.context, transfer.layers
        n_groups = context.n_fields + len(layers)
        policy = SampledPolicy(
            n_groups, context.generator, check_temperatures(self.temperature), float(self.warmup)
        )
        problem.train(transfer.parts(policy, self._searched_body))
        probabilities = policy.probabilities().cpu()
        # What the source knows nothing of is tuned, whatever its gate says.
        new = [f for f, name in enumerate(context.field_names) if name in transfer.new_columns]
        probabilities[new] = 1.0
        gates = (probabilities > 0.5).float()
        if not problem.interrupted:
            problem.train(transfer.parts(FixedPolicy(gates), FrozenOrTuned))
        chosen, n = gates.bool().tolist(), context.n_fields
        return {
            "embedding": {
                "tuned_fields": [f for f in range(n) if chosen[f]],
                "tune_probabilities": probabilities[:n].tolist(),
            },
            "body": {
                "network": describe(problem.network, "network"),
                "layers": layers,
                "tuned_layers": [layer for k, layer in enumerate(layers) if chosen[n + k]],
                "tune_probabilities": probabilities[n:].tolist(),
            },
        }

    def _searched_body(self, module, groups, policy):
        return SearchedBody(
            module, groups, policy, self.arch_lr, self.search_fraction, float(self.warmup)
        )

    def _begin(self, problem):
        """The weights of the source for the problem's network, and what they are grouped in.

        Raises
        ------
        ValueError
            If the source does not fit.
        """
        source, network = self.source, problem.network
        if source is None:
            raise ValueError(
                "source=None: AutoFT begins with a fitted CTRClassifier or RatingRegressor, give "
                "it as source. Copies and pickles of fitted estimators have lost theirs."
            )
        # All tensors of the table are mixed with those of the source, so that none is row-wise.
        context = dataclasses.replace(problem.context, sparse_gradients=False)
        plain = build_module(network, context, {})
        if not isinstance(plain, FieldNetwork) or plain.assembly is not None:
            raise ValueError(
                f"network={network!r} must make a sklearn_autorec.nn.FieldNetwork whose embeddings "
                f"make the vectors of all fields; {type(plain).__name__} does not."
            )
        weights = initial_weights(source, problem.encoder, context, plain)
        searched = sorted(source.architecture_.keys() - OWN_KEYS)
        if searched or not is_described(network, source.architecture_["network"]):
            raise ValueError(
                f"source={source!r:.100} must have the network {network!r} without searched "
                f"parts, got {source.architecture_['network']} with searched {searched}."
            )
        layers, groups = groups_of(plain, context)
        always = context.n_fields + len(layers)
        groups = {n: torch.where(weights.known[n].cpu(), g, always) for n, g in groups.items()}
        return _Transfer(network, context, weights.state, weights.new_columns, layers, groups)

    def transfer(self, state, architecture, context):
        gates = _gates(architecture, context)
        own = tuple(f"{slot}." for slot in SLOTS)
        others = {name: t for name, t in state.items() if not name.startswith(own)}
        for prefix in own:
            others |= chosen_weights(state, prefix, gates)
        return others

    def check(self, architecture, context):
        for slot, allowed in (
            ("embedding", range(context.n_fields)),
            ("body", architecture["body"].get("layers")),
        ):
            if slot not in architecture:  # in a file that holds a packed table
                continue
            entry = architecture[slot]
            name = "tuned_fields" if slot == "embedding" else "tuned_layers"
            tuned, probabilities = entry.get(name), entry.get("tune_probabilities")
            kind = int if slot == "embedding" else str
            if kind is str and not _is_list_of(allowed, str):
                raise ValueError(f"layers must be a list of names, got {allowed!r:.200}.")
            if not _is_list_of(tuned, kind) or not {*tuned} <= {*allowed}:
                raise ValueError(
                    f"{name} must be a list of some of {list(allowed)!r:.200}, got {tuned!r:.200}."
                )
            if not _is_list_of(probabilities, float) or len(probabilities) != len(allowed):
                raise ValueError(
                    f"tune_probabilities of the {slot} must be {len(allowed)} floats, got "
                    f"{probabilities!r:.200}."
                )
        network = network_of(architecture["body"].get("network"))
        if "body" not in network.slots:
            raise ValueError(f"network={network!r} of the body has no body of its own.")

    def realise(self, architecture, context):
        parts = {}
        if "embedding" in architecture:
            parts["embedding"] = FieldEmbedding(context)
        parts["body"] = NetworkBody(network_of(architecture["body"]["network"]), context)
        return parts


@dataclasses.dataclass(frozen=True, eq=False)
class _Transfer:
    """What both trainings of the search begin with."""

    network: object
    context: object
    state: dict
    new_columns: list
    layers: list
    groups: dict

    def parts(self, policy, make_body):
        """Fresh parts with the weights of the source, by slot."""
        made = {
            "embedding": (FieldEmbedding(self.context), "embedding."),
            "body": (NetworkBody(self.network, self.context), ""),
        }
        parts = {}
        for slot, (module, prefix) in made.items():
            names = {own: _whole_name(own, prefix) for own in module.state_dict()}
            module.load_state_dict({own: self.state[name] for own, name in names.items()})
            groups = {own: self.groups[names[own]] for own, _ in module.named_parameters()}
            make = make_body if slot == "body" else FrozenOrTuned
            parts[slot] = make(module, groups, policy)
        return parts


def _whole_name(name, prefix):
    """The name that a tensor of a part has in the plain network."""
    return prefix + name if prefix else name.removeprefix("network.")


def _gates(architecture, context):
    """What an architecture tunes, float (G,)."""
    fields = {*architecture["embedding"]["tuned_fields"]}
    body = architecture["body"]
    return torch.tensor(
        [float(f in fields) for f in range(context.n_fields)]
        + [float(layer in body["tuned_layers"]) for layer in body["layers"]]
    )


def _is_list_of(values, kind):
    return isinstance(values, list) and all(type(value) is kind for value in values)
