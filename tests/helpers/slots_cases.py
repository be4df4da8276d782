"""What the tests of slots share."""

import torch
from small_networks import small_networks, told
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.networks import AutoInt, FwFM
from sklearn_autorec.nn import (
    FieldEmbedding,
    linear,
)

NETWORKS = {
    **small_networks(),
    **{name: told(name, {"tags": "f0"}, hidden_units=(5,)) for name in ("din", "dien")},
    "autoint-alone": AutoInt(hidden_units=()),
    "fwfm-vectors": FwFM("FiLV"),
}

OPTIONS = {
    "embedding_dim": 3,
    "lr": 0.02,
    "max_epochs": 1,
    "search_epochs": 1,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
}


class Part(nn.Module):
    """A part that counts its calls and has one weight of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.calls, self.starts = 0, []

    def scaled(self, out):
        self.calls += 1
        if not self.starts:
            self.starts.append([p.detach().clone() for p in self.parameters()])
        return out * self.scale

    def trained(self):
        return [
            not torch.equal(p, start)
            for p, start in zip(self.parameters(), self.starts[0], strict=True)
        ]


class Gate(Part):
    def forward(self, e, inputs):
        return self.scaled(e.new_ones(1, e.shape[1]))


class Embedding(Part):
    def __init__(self, context):
        super().__init__()
        self.table = FieldEmbedding(context)

    def forward(self, inputs):
        return self.scaled(self.table(inputs))

    def unpooled(self, inputs):
        vectors, lists = self.table.unpooled(inputs)
        return [self.scaled(e) for e in vectors], lists


class Numeric(Part):
    """Numbers in three columns: value, indicator, one."""

    def forward(self, numeric):
        value, missing = numeric.unflatten(1, (2, -1)).unbind(1)
        return self.scaled(torch.stack([value, missing, torch.ones_like(value)], 2))


class Sequence(Part):
    """The sum of the items, and the target."""

    def forward(self, vectors, present, targets):
        self.seen = vectors, present, targets
        return self.scaled((vectors * present.unsqueeze(-1)).sum(2) + targets)


class Interaction(Part):
    out_dim = 2

    def forward(self, e, inputs):
        return self.scaled((e[:, 0] * e[:, 1])[:, :2])


class Body(Part):
    def __init__(self, context):
        super().__init__()
        n_in = context.axis("F", context.embedding_dim)
        self.layer = linear(n_in, context.n_outputs, context.generator)

    def forward(self, e, inputs):
        return self.scaled(self.layer(e.flatten(1)))


class Head(Part):
    """Knows its widths only when the network says them."""

    def set_widths(self, n_in, n_out, generator):
        self.widths = (n_in, n_out)
        self.layer = linear(n_in, n_out, generator)

    def forward(self, x):
        return self.scaled(self.layer(x))


class Loss(Part):
    """The reference loss, stronger where the labels are one; the weight of its own is drawn
    to two.
    """

    def __init__(self, context, positive):
        super().__init__()
        self.reference, self.positive = context.reference_loss, positive

    def forward(self, logits, y):
        rows = self.reference(logits, y) * torch.where(y > 0, self.positive, 1.0)
        return rows + self.scaled(rows.new_ones(len(rows))).sub(2).square()


MADE: list = []  # modules of `Trivial`, in order


class Trivial(SearchMethod):
    """Puts a trivial part into any slot, searched and found alike."""

    def __init__(self, slot="head", positive=1.0, retrain="scratch"):
        self.slot = slot
        self.positive = positive
        self.retrain = retrain

    def make(self, context):
        arguments = {
            "embedding": (context,),
            "body": (context,),
            "loss": (context, self.positive),
        }.get(self.slot, ())
        classes = {
            "gate": Gate,
            "embedding": Embedding,
            "numeric": Numeric,
            "sequence": Sequence,
            "interaction": Interaction,
            "body": Body,
            "head": Head,
            "loss": Loss,
        }
        MADE.append(classes[self.slot](*arguments))
        return MADE[-1]

    def build(self, context):
        return self.make(context)

    def derive(self, module, context):
        return {"calls": module.calls, "scale": module.scale.item()}

    def realise(self, architecture, context):
        assert architecture["calls"] > 0
        return self.make(context)


def fit(network, search, clicks, **options):
    return CTRClassifier(network=network, search=search, **{**OPTIONS, **options}).fit(*clicks)
