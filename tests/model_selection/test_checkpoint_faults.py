"""Folders of searches that are damaged, full, in use, or of a search that only looks the same."""

import functools
import textwrap

import pytest
from known_curves import Curve, X, Y, search
from processes import printed_here_and_afresh
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import KFold

from sklearn_autorec.exceptions import CheckpointError
from sklearn_autorec.model_selection._running._checkpoint import identity


def closing(sign):
    def scorer(estimator, X, y):
        return sign * estimator.score(X, y)

    return scorer


def defaulting(sign):
    def scorer(estimator, X, y, sign=sign):
        return sign * estimator.score(X, y)

    return scorer


def naming(sign):
    def scorer(estimator, X, y, *, sign=sign):
        return sign * estimator.score(X, y)

    return scorer


def nesting(sign):
    if sign > 0:
        return lambda estimator, X, y: (lambda: 1.0 * estimator.score(X, y))()
    return lambda estimator, X, y: (lambda: -1.0 * estimator.score(X, y))()


def closing_over_functions(sign):
    inner = closing(sign)
    return lambda estimator, X, y: inner(estimator, X, y)


def wrapping(sign):
    @functools.wraps(closing(sign))
    def wrapper(*arguments):
        return closing(sign)(*arguments)

    return wrapper


def partial(sign):
    return functools.partial(naming(1), sign=sign)


def cached(sign):
    return functools.lru_cache(closing(sign))


def with_attribute(sign):
    def scorer(estimator, X, y):
        return scorer.sign * estimator.score(X, y)

    scorer.sign = sign
    return scorer


def reading_globals(sign, of=None):
    source = """
    def scorer(estimator, X, y):
        return helper(estimator, X, y)
    def helper(estimator, X, y):
        return TABLE["sign"] * estimator.score(X, y)
    """
    known = {"TABLE": {"sign": sign}, "__name__": __name__}
    exec(textwrap.dedent(source), known)
    return known["scorer"]


def sending(sign):
    class Sender:
        def send(self, estimator, X, y):
            return sign * estimator.score(X, y)

    return Sender().send


def calling(sign):
    class Caller:
        def __call__(self, estimator, X, y):
            return (1.0 if sign > 0 else -1.0) * estimator.score(X, y)

    return Caller()


def coding(sign):
    if sign > 0:

        class Scorer:
            def __call__(self, estimator, X, y):
                return estimator.score(X, y)
    else:

        class Scorer:
            def __call__(self, estimator, X, y):
                return -estimator.score(X, y)

    return Scorer()


def with_property(sign):
    class Scorer:
        factor = sign

        def __call__(self, estimator, X, y):
            return self.factor * estimator.score(X, y)

    return Scorer()


def static(sign):
    class Scorer:
        @staticmethod
        def score(estimator, X, y):
            return sign * estimator.score(X, y)

    return Scorer.score


def choosing(sign):
    class Chooser:
        @classmethod
        def score(cls, estimator, X, y):
            return sign * estimator.score(X, y)

    return Chooser.score


def recursive(sign):
    def scorer(estimator, X, y, depth=2):
        return scorer(estimator, X, y, depth - 1) if depth else sign * estimator.score(X, y)

    return scorer


def making(sign):
    return make_scorer(fbeta_score, beta=2.0 + sign)


def in_a_dict(sign):
    return {"one": "accuracy", 2: closing(sign)}


SCORERS = [
    closing,
    defaulting,
    naming,
    nesting,
    closing_over_functions,
    wrapping,
    partial,
    cached,
    with_attribute,
]

SCORERS += [
    reading_globals,
    sending,
    calling,
    coding,
    with_property,
    static,
    choosing,
    recursive,
    making,
    in_a_dict,
]

# which search it is
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS)
def test_callables_count_by_what_they_do(scorer):
    assert identity(scorer(1)) == identity(scorer(1)) != identity(scorer(-1))


def test_identities_are_the_same_in_every_process():
    """Hashes of text differ between processes, and with them the order of sets."""
    here, afresh = printed_here_and_afresh(
        "import test_checkpoint_faults as t\n"
        "print([t.identity(s(1)) for s in t.SCORERS] + [t.identity(t.VALUES)])"
    )
    assert here == afresh != ""


VALUES = [
    {"a": 1, 2: "b", None: "c"},
    frozenset({"x", "y", "z"}),
    {"p", "q", "r"},
    {("a", 1), ("b", 2)},
]


def test_a_log_in_a_class_is_no_part_of_it(tmp_path):
    """`Curve` counts its fits in a list of its module."""
    first = identity(Curve())
    Curve().fit(X, Y)
    assert identity(Curve()) == first


def test_another_scorer_does_not_resume(tmp_path):
    search(scoring=closing(1), checkpoint=tmp_path).fit(X, Y)
    with pytest.raises(
        CheckpointError, match=r"other parameters or other data \(different: scoring\)"
    ):
        search(scoring=closing(-1), checkpoint=tmp_path).fit(X, Y)
    again = search(scoring=closing(1), checkpoint=tmp_path).fit(X, Y)
    assert again.best_score_ > 0
    with pytest.raises(CheckpointError, match=r"\(different: X, cv\)"):
        search(scoring=closing(1), checkpoint=tmp_path, cv=KFold(3)).fit(X + 1, Y)
