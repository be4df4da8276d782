"""When a search that is judged ends, and when it warns that it was too long."""

import warnings
from types import SimpleNamespace

import pytest

from sklearn_autorec.engine import _unseen
from sklearn_autorec.exceptions import ConvergenceWarning


def watch(losses, ends, patience=2):
    """What `UnseenLoss` says after each of the losses, and itself."""
    given = iter(losses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_unseen, "scores_of", lambda *args: {"unseen_loss": next(given)})
        modules = [SimpleNamespace(ends_early=True), SimpleNamespace(ends_early=ends)]
        plan = SimpleNamespace(patience=patience)
        seen = _unseen.UnseenLoss(None, None, plan, None, modules)
        return [seen.look({}) for _ in losses], seen


def test_a_search_ends_when_the_loss_has_not_fallen_for_as_many_epochs():
    losses = [0.7, 0.6, 0.65, 0.59, 0.6, 0.61]
    assert watch(losses, True)[0] == [False] * 5 + [True]
    assert watch(losses, True, patience=1)[0] == [False, False, True, False, True, True]
    stops, seen = watch(losses, False)
    assert stops == [False] * 6 and seen.best_epoch == 4


def test_a_search_that_cannot_end_warns_if_it_was_much_too_long():
    long = [0.6, 0.7, 0.8, 0.9, 1.0]
    with pytest.warns(ConvergenceWarning, match=r"'interaction'.*after epoch 1, 0.6000, and is 1"):
        watch(long, False)[1].warn(("interaction",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch(long, True)[1].warn(("interaction",))
        watch(long[:4], False)[1].warn(("interaction",))
        watch([0.6, 0.61, 0.62, 0.63, 0.64], False)[1].warn(("interaction",))
        watch([0.9, 0.8, 0.5, 0.7, 0.8], False)[1].warn(("interaction",))
