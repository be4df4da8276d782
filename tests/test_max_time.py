"""Fits that end in time: by a clock of the tests, which strikes at each training step."""

import pickle

import numpy as np
import pytest
from estimators_cases import clicks_of_five, quick
from sklearn.base import clone
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec._registry import METHODS as REGISTRY
from sklearn_autorec.base import FixedArchitecture, networks_with_slot
from sklearn_autorec.embedding import AMTL, PEP
from sklearn_autorec.engine import FieldNet, _time_limit
from sklearn_autorec.exceptions import ConvergenceWarning
from sklearn_autorec.interaction import AutoCTR, AutoFIS
from sklearn_autorec.serving import load, save

METHODS = {
    cls.__name__: cls for _, cls in sorted(REGISTRY.own().items()) if cls is not FixedArchitecture
}
CUT = "max_time=.* seconds are over before the fit was finished"


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = clicks_of_five()
    return X[:640], y[:640]


class Clock:
    """A second passes with each training step."""

    def __init__(self, monkeypatch):
        self.seconds, self.steps = 100.0, 0
        monkeypatch.setattr(_time_limit.time, "monotonic", lambda: self.seconds)
        step = FieldNet.train_step

        def train_step(net, batch, **params):
            self.seconds += 1
            self.steps += 1
            return step(net, batch, **params)

        monkeypatch.setattr(FieldNet, "train_step", train_step)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def small(**options):
    """Ten steps an epoch."""
    return quick(**{"batch_size": 64, "max_epochs": 3, **options})


def cut(model, *data, **more):
    with pytest.warns(ConvergenceWarning, match=CUT):
        return model.fit(*data, **more)


# the last training
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "steps", "epochs"), [(4, 4, 1), (10, 10, 1), (14.5, 15, 2)])
def test_training_ends_with_the_batch_in_which_time_is_over(clicks, clock, seconds, steps, epochs):
    model = cut(small(max_time=seconds), *clicks)
    assert clock.steps == steps and model.n_iter_ == len(model.history_) == epochs
    assert model.stopped_ == "max_time" and np.isfinite(model.predict_proba(clicks[0])).all()


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_weights_are_those_of_the_steps_that_were_taken(clicks, clock, averaging):
    whole = small(max_epochs=1, averaging=averaging).fit(*clicks)
    model = cut(small(max_time=10, averaging=averaging), *clicks)
    np.testing.assert_array_equal(model.predict_proba(clicks[0]), whole.predict_proba(clicks[0]))


@pytest.mark.parametrize("options", [{}, {"lr_schedule": "cosine"}, {"averaging": 0.9}])
def test_the_best_epoch_is_kept_the_last_one_as_far_as_it_went(clicks, clock, options):
    X, y = clicks
    options = {"lr": 0.1, "max_epochs": 8, "patience": 8, "early_stopping": True, **options}
    model = cut(small(**options, max_time=42), X, y, X_val=X[:200], y_val=1 - y[:200])
    losses = [record["valid_loss"] for record in model.history_]
    assert clock.steps == 42 and len(losses) == 5
    assert model.n_iter_ == 1 + int(np.argmin(losses))
    assert (model.n_iter_ < 5) == ("lr_schedule" not in options)
    scored = -np.log(np.clip(model.predict_proba(X[:200])[np.arange(200), 1 - y[:200]], 1e-9, 1))
    assert scored.mean() == pytest.approx(min(losses), rel=1e-4)


def test_time_that_is_enough_changes_nothing(clicks, clock):
    timed, plain = small(max_time=30.5).fit(*clicks), small().fit(*clicks)
    assert timed.stopped_ == plain.stopped_ == "finished"
    np.testing.assert_array_equal(timed.predict_proba(clicks[0]), plain.predict_proba(clicks[0]))
    # The last step of the last epoch is the end of the fit, not of its time.
    assert small(max_time=30).fit(*clicks).stopped_ == "finished"


def test_encoding_counts(clicks, clock, monkeypatch):
    encode = CTRClassifier._target_kind.encode

    def slow(self, y):
        clock.seconds += 5
        return encode(self, y)

    monkeypatch.setattr(CTRClassifier._target_kind, "encode", slow)
    cut(small(max_time=12), *clicks)
    assert clock.steps == 7


def test_members_and_ratings_have_the_same_limit(clicks, clock):
    X, y = clicks
    assert cut(small(max_time=14, members=2), X, y).n_iter_ == 2 and clock.steps == 14
    ratings = RatingRegressor(network="fm", batch_size=64, max_epochs=3, max_time=4, random_state=0)
    assert cut(ratings, X, y.astype(float)).stopped_ == "max_time"


def test_warm_starts_and_chunks(clicks, clock):
    X, y = clicks
    model = cut(small(max_time=15, warm_start=True), X, y)
    assert model.n_iter_ == 2
    assert model.set_params(max_time=None).fit(X, y).n_iter_ == 3
    assert model.stopped_ == "finished"
    # Each call of fit has its own time, chunks have none.
    model = cut(model.set_params(max_epochs=9, max_time=12), X, y)
    assert model.n_iter_ == 5 and clock.steps == 15 + 10 + 12
    assert model.set_params(max_time=1e-6).partial_fit(X, y).n_iter_ == 6
    assert not hasattr(model, "stopped_")


# searches
# -------------------------------------------------------------------------------------------------


def test_searches_have_half_of_the_time_and_leave_what_they_do_not_need(clicks, clock):
    options = {"search": [AutoFIS(), PEP()], "search_epochs": 2}
    model = cut(small(**options, max_time=20), *clicks)
    # Five seconds each, then ten for the training.
    assert [r["epoch"] for r in model.search_history_] == [1, 1] and clock.steps == 20
    assert {"interaction", "embedding"} <= model.architecture_.keys()
    assert model.n_iter_ == 1 and model.stopped_ == "max_time"
    clock.steps = 0
    with pytest.warns(ConvergenceWarning, match="left out: train. .* of at most 3"):
        small(search=AutoFIS(), search_epochs=1, max_time=24).fit(*clicks)
    assert clock.steps == 24


def test_searches_that_are_cut_say_so(clicks, clock):
    with pytest.warns(ConvergenceWarning, match="search-AutoFIS, search-PEP, train"):
        small(search=[AutoFIS(), PEP()], max_time=8).fit(*clicks)
    with pytest.warns(ConvergenceWarning, match=r"search-AutoFIS\+PEP, train"):
        small(search=[AutoFIS(), PEP()], joint=True, max_time=8).fit(*clicks)


def test_a_search_without_a_training_after_it_has_all_of_the_time(clicks, clock):
    model = cut(small(search=AMTL(retrain="none"), search_epochs=4, max_time=15), *clicks)
    assert clock.steps == 15 and len(model.search_history_) == 2 and model.n_iter_ == 0


# A policy that was cut may not want anything yet.
@pytest.mark.filterwarnings("ignore:NIS.*keeps no number:UserWarning")
@pytest.mark.parametrize("name", METHODS)
def test_every_search_can_be_cut(name, clock):
    X, y = mixed_clicks(600, cardinality=8, pairs=2, missing_rate=0.05)
    X["age"] = np.random.default_rng(0).integers(18, 60, len(X))
    options = {"embedding_dim": 4, "max_epochs": 2, "batch_size": 64, "random_state": 0}
    cls = METHODS[name]
    source = CTRClassifier(network="fm", **options).fit(X, y) if cls.fit_only else None
    method = cls(**dict.fromkeys(cls.fit_only, source))
    names = networks_with_slot(*method.slots)
    network = "fm" if "fm" in names else names[0]
    clock.steps = 0
    model = cut(CTRClassifier(network=network, search=method, max_time=9, **options), X, y)
    assert clock.steps == 9 and model.stopped_ == "max_time"
    p = model.predict_proba(X)
    assert np.isfinite(p).all() and p[:, 1].std() > 0


def test_candidates_that_have_begun_are_finished(clicks, clock):
    search = AutoCTR(max_evaluations=12, population=3, n_children=1, epochs=1, max_blocks=2)
    model = cut(small(network="mlp", search=search, max_epochs=1, max_time=40), *clicks)
    scores = [r for r in model.search_history_ if "candidate" in r]
    # Each candidate trains on four fifths of the rows: eight steps.
    assert len(scores) == 3 and clock.steps == 24 + 10
    assert model.stopped_ == "max_time"
    sooner = small(network="mlp", search=clone(search).set_params(max_time=10), max_epochs=1)
    found = sooner.set_params(max_time=60).fit(*clicks)
    assert len([r for r in found.search_history_ if "candidate" in r]) == 2
    assert found.stopped_ == "finished"  # of the fit, whose own time was enough


# what stands beside the network
# -------------------------------------------------------------------------------------------------


def auto(**options):
    return CTRClassifier(
        **{"embedding_dim": 4, "batch_size": 64, "max_epochs": 4, "random_state": 0, **options}
    )


def test_trainings_in_turn_have_equal_parts_and_those_beside_the_network_a_fifth(clicks, clock):
    model = cut(auto(max_time=50), *clicks)
    # Eight seconds for each of five trainings; the parts take none of this clock.
    assert clock.steps == 40 and model.part_weights_.keys() > {"network"}


def test_parts_that_could_not_begin_are_left_out(clicks, clock):
    with pytest.warns(ConvergenceWarning, match="validate-1, .*train, wide, target_statistics"):
        model = auto(max_time=2).fit(*clicks)
    # One step each, then no time is left.
    assert clock.steps == 5 and model.part_weights_ == {"network": 1.0}


# the user, files
# -------------------------------------------------------------------------------------------------


def test_ctrl_c_is_no_end_of_time(clicks, clock, monkeypatch):
    step = FieldNet.train_step

    def interrupted(net, batch, **params):
        if clock.steps == 13:
            raise KeyboardInterrupt
        return step(net, batch, **params)

    monkeypatch.setattr(FieldNet, "train_step", interrupted)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model = small(max_time=50).fit(*clicks)
    assert model.stopped_ == "interrupted" and model.n_iter_ == 1


def test_ctrl_c_after_a_search_that_was_cut_is_heard(clicks, clock, monkeypatch):
    step = FieldNet.train_step

    def interrupted(net, batch, **params):
        if clock.steps == 5:
            raise KeyboardInterrupt
        return step(net, batch, **params)

    monkeypatch.setattr(FieldNet, "train_step", interrupted)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model = small(max_time=10, search=AutoFIS()).fit(*clicks)
    assert model.stopped_ == "interrupted" and model.n_iter_ == 0


def test_what_ended_a_fit_stays_in_pickles_and_not_in_files(clicks, clock, tmp_path):
    model = cut(small(max_time=4), *clicks)
    assert pickle.loads(pickle.dumps(model)).stopped_ == "max_time"
    save(model, tmp_path / "clicks.model")
    loaded = load(tmp_path / "clicks.model")
    assert loaded.max_time == 4 and not hasattr(loaded, "stopped_")
    np.testing.assert_array_equal(loaded.predict_proba(clicks[0]), model.predict_proba(clicks[0]))


@pytest.mark.parametrize("seconds", [0, -1, "60"])
def test_wrong_times_are_refused(clicks, seconds):
    with pytest.raises(ValueError, match="'max_time' parameter of CTRClassifier must be"):
        small(max_time=seconds).fit(*clicks)
