"""When a search that is judged ends, and when it warns that it was too long."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from sklearn_autorec.engine import GRDA, _unseen
from sklearn_autorec.exceptions import ConvergenceWarning


def watch(losses, ends, patience=2):
    """What `UnseenLoss` says after each of the losses, and itself."""
    given = iter(losses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_unseen, "scores_of", lambda *args: {"unseen_loss": next(given)})
        modules = [SimpleNamespace(ends_early=True), SimpleNamespace(ends_early=ends)]
        plan = SimpleNamespace(patience=patience)
        net = SimpleNamespace(trained=torch.nn.Linear(1, 1), arch_turns_=[])
        seen = _unseen.UnseenLoss(net, None, plan, None, modules)
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


@pytest.mark.parametrize("ends", [True, False])
def test_a_search_that_may_end_goes_back_to_its_best_epoch(ends):
    losses = iter([0.7, 0.6, 0.65, 0.66])
    part = torch.nn.Linear(1, 1)
    optimizer = GRDA([part.weight], lr=0.1, threshold=0.5, mu=0.8, n_steps=4)
    net = SimpleNamespace(trained=part, arch_turns_=[(None, optimizer, part)])
    modules = [SimpleNamespace(ends_early=ends)]
    seen = _unseen.UnseenLoss(net, None, SimpleNamespace(patience=2), None, modules)
    states = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_unseen, "scores_of", lambda *args: {"unseen_loss": next(losses)})
        for _ in range(4):
            part.weight.grad = torch.ones_like(part.weight)
            optimizer.step()
            seen.look({})
            held = optimizer.state[part.weight]
            states.append((held["step"], float(held["v"]), float(part.weight.detach())))
    seen.restore()
    held = optimizer.state[part.weight]
    found = held["step"], float(held["v"].detach()), float(part.weight.detach())
    assert found == states[1 if ends else 3] and len({*states}) == 4
