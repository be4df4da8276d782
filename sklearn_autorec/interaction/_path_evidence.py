"""What the paths of a graph of fields say about rows that nothing was trained on."""

import math
from itertools import permutations

import numpy as np
import torch
from scipy.stats import norm

from ._evidence import CHANCE, cut_behind, slope_evidence, slopes

MAX_TESTED = 20_000  # combinations that are asked about, those of the largest scores
TESTED_CELLS = 2**24  # numbers of the rows that judge, times combinations, held at a time


class JudgedPaths:
    """Mixin of a `FieldGraph` that asks unseen rows about the combinations that its paths spell.

    Attributes
    ----------
    evidence : dict of tuple of int to float, or None
        By combination: how fast the loss of unseen rows falls as it is faded in, in standard
        errors; None where nothing was asked.
    """

    def judge(self, network, loss, data):
        """Measure, on rows that nothing was trained on, whether each combination that is open
        points towards the target; see `slope_evidence`.
        """
        found = [
            (tuples[weakest >= self.threshold], scores[weakest >= self.threshold])
            for tuples, scores, weakest in self.combinations()
        ]
        least = np.sort(np.concatenate([scores for _, scores in found]))[-MAX_TESTED:][:1]
        self.evidence, n = {}, max(TESTED_CELLS // len(data), 1)
        for tuples, scores in found:
            tuples = tuples[scores >= least]
            for part in np.array_split(tuples, max(math.ceil(len(tuples) / n), 1)):
                if len(part):
                    t = self.evidence_of(torch.from_numpy(part), network, loss, data)
                    self.evidence |= dict(zip(map(tuple, part.tolist()), t.tolist(), strict=True))

    def proven(self, combinations):
        """Of which combinations chance does not explain how much they help on unseen rows, bool
        (T,); all, where none was asked about.
        """
        if self.evidence is None:
            return np.ones(len(combinations), bool)
        t = np.array([self.evidence.get(tuple(c), 0.0) for c in combinations])
        return t > norm.isf(CHANCE / max(len(self.evidence), 1))

    def evidence_of(self, tuples, network, loss, data):
        """`slope_evidence` of combinations of one order, int64 Tensor (T, p)."""
        fields, taken = tuples.to(self.logits.device).T, []
        handle = self.register_forward_pre_hook(lambda module, args: taken.append(args[0]))

        def shares_of(batch):
            logits = network(**batch.inputs)
            return logits, self.shares(taken.pop(), fields, slopes(logits, seen[0]))

        try:
            with cut_behind(self) as seen:
                n_cells = tuples.numel() * self.transform.shape[1]
                return slope_evidence(network, loss, data, shares_of, n_cells)
        finally:
            handle.remove()

    @torch.no_grad()
    def shares(self, e, fields, slope):
        """What combinations of one order add to the logits; embeddings (B, F, d), fields (p, T) and
        derivatives of the logits by the outputs (B, K F, C) -> (B, T, C).
        """
        first, edges, n = self.norm(e), self.adjacency(), e.shape[1]
        messages = torch.einsum("bfd,fde->bfe", first, self.transform)
        layer, total = len(fields) - 2, 0.0
        read = first * self.readout[layer] * self.confidence.exp()
        slope = slope.unflatten(1, (-1, n))[:, layer]
        for place, node in enumerate(fields):
            others = [*fields[:place], *fields[place + 1 :]]
            # The order of the others matters to the edges alone.
            paths = [
                math.prod(edges[k, node, other] / (n - 1) for k, other in enumerate(order))
                for order in permutations(others)
            ]
            state = read.index_select(1, node)
            for other in others:
                state = state * messages.index_select(1, other)
            made = state.sum(2) * sum(paths)
            total = total + made.unsqueeze(2) * slope.index_select(1, node)
        return total
