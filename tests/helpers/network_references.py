"""Tables of all kinds for networks, and plain numpy references of the layers that they share."""

import numpy as np
import torch

from sklearn_autorec.nn import BuildContext, Inputs


def context(n_outputs=1, n_ids=(5, 4, 6), n_numeric=2, sequences=((5, 3),), seed=0, d=3):
    n = len(n_ids) + n_numeric + len(sequences)
    return BuildContext(
        tuple(f"f{i}" for i in range(n)),
        n_ids,
        n_numeric,
        sequences,
        embedding_dim=d,
        n_outputs=n_outputs,
        generator=torch.Generator().manual_seed(seed),
        output_bias=(0.3,) * n_outputs,
        embedding_init=0.7,
    )


def batch(c, n=7, seed=1):
    g = torch.Generator().manual_seed(seed)
    ids = [torch.randint(0, k, (n, 1), generator=g) for k in c.n_ids]
    sequences = [torch.randint(0, k, (n, length), generator=g) for k, length in c.sequences]
    return Inputs(
        torch.cat(ids, 1).int() if ids else torch.zeros(n, 0, dtype=torch.int32),
        torch.randn(n, 2 * c.n_numeric, generator=g),
        torch.cat(sequences, 1).int() if sequences else torch.zeros(n, 0, dtype=torch.int32),
    )


def prepared(network, c, parts=None):
    """A module in eval mode with no weight, bias or statistic left at a special value."""
    module = network.build(c, parts or {})
    g = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=g))
            if name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)
    return module.eval()


def np_linear(layer, x):
    out = x @ layer.weight.detach().numpy().T
    return out if layer.bias is None else out + layer.bias.detach().numpy()


def np_norm(layer, x):
    if not isinstance(layer, torch.nn.BatchNorm1d):
        return x
    scale = layer.weight.detach().numpy() / np.sqrt(layer.running_var.numpy() + layer.eps)
    return (x - layer.running_mean.numpy()) * scale + layer.bias.detach().numpy()


def np_mlp(mlp, x):
    for layer in mlp.layers:
        if isinstance(layer, torch.nn.Linear):
            x = np_linear(layer, x)
        elif isinstance(layer, torch.nn.BatchNorm1d):
            x = np_norm(layer, x)
        else:
            x = np.maximum(x, 0)
    return x
