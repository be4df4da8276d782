"""Whether features of the interaction slot say anything about rows that nothing was trained on."""

import torch

from ..engine import batches_of

JUDGED_CELLS = 2**21  # losses computed at a time


def fading_evidence(part, network, loss, data, columns=None):
    """How fast the loss of unseen rows falls as features are faded in, in standard errors.

    The logits without a feature are the logits less the feature times their derivative by it:
    exactly without it where features are added to the logit (FM, DeepFM), to first order where
    a perceptron reads them (IPNN). From there the slope of the loss is taken, not the loss with
    the whole feature: embeddings fitted to few rows are too loud, and a feature may say the
    right thing and yet cost loss until the final training stops in time. The slope is taken
    twice, beside all the rest of the network and from a constant prediction; the smaller
    evidence counts. What the rest has fitted of noise leaves errors that overfitted features
    have in common; a constant leaves none.

    Parameters
    ----------
    part : nn.Module
        In the interaction slot, gives the features (B, P).
    network : nn.Module
        Around it; is in its present mode again afterwards.
    loss : nn.Module
        Logits (B, C), y (B,) -> (B,).
    data : EncodedTensors
        The rows that judge, one or more.
    columns : slice or None, default=None
        Features that are faded in together, as one; None is each by itself.

    Returns
    -------
    float64 Tensor (P,), or (1,) with ``columns``
        t statistics; 0 where a feature does not vary.
    """
    gains, start = [], 0
    for batch, logits, products, slopes in _passes(part, network, data):
        shares = products.unsqueeze(2) * slopes  # of the logits, (B, P, C)
        if columns is not None:
            shares = shares[:, columns].sum(1, keepdim=True)
        if not start:
            nothing = torch.zeros(len(data), logits.shape[1], device=logits.device)
            alone = downhill(loss, nothing, data.y)
            alone = alone - alone.mean(0)
        without = (logits.unsqueeze(1) - shares).flatten(0, 1)
        beside = downhill(loss, without, batch.y.repeat_interleave(shares.shape[1], 0)).view(
            shares.shape
        )
        stop = start + len(logits)
        gain = torch.stack([(shares * d).sum(2) for d in (beside, alone[start:stop].unsqueeze(1))])
        gains.append((gain if batch.weight is None else gain * batch.weight.unsqueeze(1)).double())
        start = stop
    gains = torch.cat(gains, 1)  # (2, n, P)
    error = gains.std(1, correction=min(len(data) - 1, 1)) / len(data) ** 0.5
    return torch.where(error > 0, gains.mean(1) / error, 0.0).amin(0).cpu()


def mean_slopes(part, network, data):
    """Mean derivatives of the logits by the features of the interaction slot.

    They are 1 where features are added to the logit, as in FM and DeepFM. Parameters as of
    `fading_evidence`.

    Returns
    -------
    float64 Tensor (P, C)
    """
    total = sum(slopes.double().sum(0) for *_, slopes in _passes(part, network, data))
    return (total / len(data)).cpu()


def _passes(part, network, data):
    """Batches with their logits (B, C), features (B, P) and the slopes of these, (B, P, C)."""
    seen = []

    def cut(module, args, out):
        seen[:] = [out.detach().requires_grad_()]
        return seen[0]

    mode, handle = network.training, part.register_forward_hook(cut)
    network.eval()
    try:
        for batch in batches_of(data, max(JUDGED_CELLS // max(part.out_dim, 1), 1)):
            logits = network(**batch.inputs)
            slopes = [
                torch.autograd.grad(logits[:, c].sum(), seen[0], retain_graph=True)[0]
                for c in range(logits.shape[1])
            ]
            yield batch, logits.detach(), seen[0].detach(), torch.stack(slopes, 2)
    finally:
        handle.remove()
        network.train(mode)


def downhill(loss, logits, y):
    """How fast the loss of every row falls with its logits, (B, C)."""
    logits = logits.detach().requires_grad_()
    return -torch.autograd.grad(loss(logits, y).sum(), logits)[0]
