"""What every regularized evolution does, whatever evolves: the aging queue, and no child twice."""

from collections import deque

TRIES = 20  # proposals until one was not seen before


class AgingQueue:
    """Candidates with their scores, of which the oldest leave; parents win tournaments.

    Parameters
    ----------
    length : int
        More than so many push the oldest out, however good they are.
    tournament : int
        Candidates that are drawn, of which the best is the parent.
    score : callable (candidate) -> float
        Higher is better; of equals the older wins.
    candidates : iterable
        Who is in the queue, the oldest first.

    References
    ----------
    .. [1] Real, E. et al. "Regularized Evolution for Image Classifier Architecture Search", AAAI
       2019, algorithm 1. https://arxiv.org/abs/1802.01548
    """

    def __init__(self, length, tournament, score, candidates=()):
        self.candidates = deque(candidates, maxlen=length)
        self.tournament = tournament
        self.score = score

    def __len__(self):
        return len(self.candidates)

    def join(self, candidates):
        """New candidates, one after the other."""
        self.candidates.extend(candidates)

    def parent(self, random_state):
        """The best of those that are drawn by ``choice`` of a RandomState or Generator."""
        n = len(self.candidates)
        drawn = random_state.choice(n, size=min(self.tournament, n), replace=False)
        return max((self.candidates[k] for k in sorted(drawn)), key=self.score)


def first_new(propose, is_new, tries=TRIES):
    """The first of so many proposals that is new; the last if none is, and whether one was.

    Parameters
    ----------
    propose : callable () -> proposal
    is_new : callable (proposal) -> bool
    tries : int

    Returns
    -------
    proposal, bool
    """
    for _ in range(tries):
        proposal = propose()
        if is_new(proposal):
            return proposal, True
    return proposal, False
