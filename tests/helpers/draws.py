"""Random numbers, and proposals that are answered."""

import itertools

import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def configurations(choices):
    """All of them."""
    return [dict(zip(choices, v, strict=True)) for v in itertools.product(*choices.values())]


def run(policy, score):
    """All candidates of a policy with their scores."""
    proposals, history, said = policy.proposals(), [], None
    while True:
        try:
            batch = proposals.send(said)
        except StopIteration:
            return history
        said = [score(c) for c in batch]
        history += zip(batch, said, strict=True)
