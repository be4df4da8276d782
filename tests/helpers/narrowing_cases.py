"""What the tests of dropped fields share."""

import torch

from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.nn import (
    BuildContext,
)

FIELDS = [0, 2, 3, 5]

KEEP = FixedArchitecture(
    {"method": "AutoField", "params": {}, "fields": FIELDS, "scores": [0.0] * 6}
)


def context(**options):
    options = {"output_bias": (0.3,), **options}
    return BuildContext(
        tuple("abcdef"),
        (5, 4, 6),
        2,
        ((5, 3),),
        embedding_dim=4,
        generator=torch.Generator().manual_seed(0),
        embedding_init=0.7,
        **options,
    )


def moved(whole):
    """The network with weights and statistics that differ from element to element."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in whole.named_parameters():
            # A bias of a cross layer acts without its field.
            if "cross" not in name or "weight" in name:
                p.add_(0.3 * torch.randn(p.shape, generator=g))
        for name, b in whole.named_buffers():
            if name.endswith("running_mean"):
                b.normal_(generator=g)
    return whole


def data(**options):
    return make_ctr(
        3000,
        n_fields=5,
        informative_fields=[1],
        pairs=[(2, 4)],
        n_numeric=1,
        n_sequences=1,
        random_state=0,
        **options,
    )
