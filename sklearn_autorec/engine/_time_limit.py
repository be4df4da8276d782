"""How long a fit may take, and who of its parts gets how much of that."""

import time

__all__ = ["BatchesInTime", "TimeLimit", "earliest", "has_passed"]


def now():
    """Seconds of the clock by which all time limits of fits go."""
    return time.monotonic()


def has_passed(deadline):
    """Whether a deadline (None is never) lies behind."""
    return deadline is not None and now() >= deadline


def earliest(*deadlines):
    """The first of several deadlines, None being never."""
    return min((d for d in deadlines if d is not None), default=None)


class TimeLimit:
    """The time of one fit, which begins now.

    Parameters
    ----------
    seconds : float or None
        None is no limit.

    Attributes
    ----------
    cut : list of str
        What time has ended or left out so far.
    """

    def __init__(self, seconds):
        self.seconds = seconds
        self.end = None if seconds is None else now() + seconds
        self.cut: list[str] = []

    @property
    def is_over(self):
        return has_passed(self.end)

    def phases(self, n, share=1.0):
        """Deadlines of ``n`` parts that follow each other, as they begin.

        Together they have a share of the time that is left when the first of them begins. What one
        does not need is for those after it.

        Parameters
        ----------
        n : int
        share : float in (0, 1]

        Yields
        ------
        float or None
            None where there is no limit.
        """
        end = None
        for number in range(n):
            if self.end is None:
                yield None
                continue
            begun = now()
            if number == 0:
                end = begun + share * max(self.end - begun, 0.0)
            yield begun + max(end - begun, 0.0) / (n - number)


class BatchesInTime:
    """Batches until a deadline; of a pass at least one.

    Parameters
    ----------
    batches : iterable with a length
    deadline : float or None
    has_come : callable () -> bool, or None
        Asked after each batch whether the deadline has passed; None is the clock.

    Attributes
    ----------
    is_over : bool
        Whether the deadline has passed.
    cut : bool
        Whether a pass was ended before its last batch.
    """

    def __init__(self, batches, deadline, has_come=None):
        self.batches = batches
        self.has_come = (lambda: has_passed(deadline)) if has_come is None else has_come
        self.is_over = self.cut = False

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        left = len(self.batches)
        for batch in self.batches:
            yield batch
            left -= 1
            if self.has_come():
                self.is_over, self.cut = True, left > 0
                return
