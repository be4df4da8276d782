"""Constructors that store what they are given."""

import inspect
import pickle

import pytest
from sklearn.base import BaseEstimator, clone

from sklearn_autorec.utils._parameters import stores_own_and_common, stores_parameters


class Search(BaseEstimator):
    @stores_parameters
    def __init__(self, model, n_iter=50, *, scoring=None):
        """Store the parameters."""


class Longer(Search):
    """Hands nothing on to the constructor of its base."""

    @stores_parameters
    def __init__(self, model, *, n_iter=7, scoring=None, cv=3):
        """Store the parameters."""


def test_what_is_given_and_what_is_not_are_stored():
    model = object()
    assert vars(Search(model, 3)) == {"model": model, "n_iter": 3, "scoring": None}
    assert Search(model).model is model and Search(model, scoring="r2").scoring == "r2"
    assert vars(Longer("fm", cv=5)) == {"model": "fm", "n_iter": 7, "scoring": None, "cv": 5}


def test_scikit_learn_reads_the_signature():
    assert list(inspect.signature(Longer).parameters) == ["model", "n_iter", "scoring", "cv"]
    assert Longer("fm").get_params() == {"model": "fm", "n_iter": 7, "scoring": None, "cv": 3}
    assert repr(Longer("fm", cv=5)) == "Longer(cv=5, model='fm')"
    copy = clone(Longer("fm", cv=5).set_params(n_iter=1))
    assert vars(copy) == vars(pickle.loads(pickle.dumps(copy)))
    assert copy.n_iter == 1 and copy.cv == 5


class Common(Search):
    """Has the keyword parameters of `Longer` besides its own, with one default of its own."""

    @stores_own_and_common(Longer)
    def __init__(self, net, *, cv=4, step=1, **common):
        """Store the parameters."""


def test_parameters_in_common_are_those_of_the_base():
    assert str(inspect.signature(Common)) == "(net, *, cv=4, step=1, n_iter=7, scoring=None)"
    stored = {"net": "fm", "cv": 4, "step": 1, "n_iter": 3, "scoring": None}
    assert vars(Common("fm", n_iter=3)) == stored
    assert clone(Common("fm", n_iter=3)).get_params() == stored
    with pytest.raises(TypeError, match=r"Common.__init__\(\) got an unexpected .* argument 'n'"):
        Common("fm", n=1, scoring="r2")


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((), {}, r"Longer.__init__\(\) missing 1 required positional argument: 'model'"),
        (("fm",), {"n": 1}, r"Longer.__init__\(\) got an unexpected keyword argument 'n'"),
        (("fm", 1), {}, r"Longer.__init__\(\) takes 2 positional arguments but 3 were given"),
    ],
)
def test_what_the_constructor_does_not_know_is_refused_by_its_name(arguments, options, message):
    with pytest.raises(TypeError, match=message):
        Longer(*arguments, **options)
