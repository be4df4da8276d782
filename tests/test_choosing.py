"""Choosing among networks and papers with scikit-learn's own searches."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM

OPTIONS = {"embedding_dim": 4, "lr": 0.02, "max_epochs": 2, "random_state": 0, "device": "cpu"}
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = make_ctr(1200, n_fields=4, cardinality=8, pairs=2, n_numeric=1, random_state=0)
    return X, y


def pipeline(**options):
    scale = ColumnTransformer([("scale", StandardScaler(), ["x0"])], remainder="passthrough")
    return Pipeline(
        [
            ("scale", scale.set_output(transform="pandas")),
            ("ctr", CTRClassifier(**OPTIONS | options)),
        ]
    )


def grid(estimator, values, clicks, **options):
    return GridSearchCV(estimator, values, cv=FOLDS, **{"error_score": "raise", **options}).fit(
        *clicks
    )


def figures(search):
    """Everything in ``cv_results_`` that is not a time, without the parameters' own columns."""
    found = search.cv_results_
    return {
        name: found[name] for name in found if "time" not in name and not name.startswith("param")
    }


def plain(params):
    """Deep parameters with objects as their class, which are otherwise equal only to themselves."""
    return {
        name: type(value) if isinstance(value, BaseEstimator) else value
        for name, value in params.items()
    }


def test_halving_over_networks_and_papers(clicks):
    seen = []

    def accuracy(model, X, y):
        seen.append(model)
        return model.score(X, y)

    methods = [None, AutoFIS(), PEP(), AutoDim()]
    search = HalvingRandomSearchCV(
        CTRClassifier(**OPTIONS),
        {"network": ["fm", "deepfm"], "search": methods},
        n_candidates=8,
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=FOLDS,
        scoring=accuracy,
        random_state=0,
        error_score="raise",
    ).fit(*clicks)
    assert search.n_resources_ == [1, 2, 4] and search.n_candidates_ == [8, 4, 2]
    tried = {(p["network"], str(p["search"])) for p in search.cv_results_["params"][:8]}
    assert tried == {(network, str(method)) for network in ("fm", "deepfm") for method in methods}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    # search_epochs=None follows max_epochs: every rung searches as long as it trains.
    fits = [model for model in seen if model.search is not None]
    assert {model.max_epochs for model in fits} == {1, 2, 4}
    for model in fits:
        assert len(model.search_history_) == len(model.history_) == model.max_epochs
        assert list(model.architecture_) == [
            model.search.slot,
            "network",
            "embedding_dim",
            "numeric_embedding",
        ]
    assert all(model.search_history_ == [] for model in seen if model.search is None)
    best = search.best_estimator_
    assert best.max_epochs == 4 and len(best.history_) == 4
    assert search.score(*clicks) == best.score(*clicks) > 0.6


def test_grid_over_the_parameters_of_a_paper_in_a_pipeline(clicks):
    search = grid(
        pipeline(network=FM(), search=PEP()),
        {"ctr__search__target_sparsity": [0.2, 0.5, 0.9]},
        clicks,
        refit=False,
    )
    ratios = []
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        model = pipeline(network=FM(), search=PEP()).set_params(**params).fit(*clicks)
        ratios.append(model[-1].compression_ratio_)
        # What the grid reports is what the same parameters give by hand.
        by_hand = [
            clone(model).fit(clicks[0].iloc[a], clicks[1][a]).score(clicks[0].iloc[b], clicks[1][b])
            for a, b in FOLDS.split(*clicks)
        ]
        assert score == np.mean(by_hand)
    assert ratios[0] < ratios[1] < ratios[2]


def test_grid_over_paper_and_network_together(clicks):
    values = {"ctr__search__threshold": [0.0, 0.4], "ctr__network__hidden_units": [(4,), (8, 4)]}
    search = grid(pipeline(network=DeepFM(), search=AutoFIS()), values, clicks)
    assert (
        len(search.cv_results_["params"]) == 4
        and np.isfinite(search.cv_results_["mean_test_score"]).all()
    )
    best = search.best_estimator_[-1]
    assert best.network.hidden_units == search.best_params_["ctr__network__hidden_units"]
    assert best.search.threshold == search.best_params_["ctr__search__threshold"]
    found = best.architecture_
    assert found["interaction"]["params"]["threshold"] == best.search.threshold
    assert found["network"]["params"]["hidden_units"] == list(best.network.hidden_units)


def test_each_paper_with_parameters_of_its_own(clicks):
    values = [
        {"search": [PEP()], "search__target_sparsity": [0.3, 0.6]},
        {"search": [AutoFIS()], "search__max_interactions": [1, 2]},
    ]
    search = grid(CTRClassifier(network="fm", **OPTIONS), values, clicks)
    found = [
        str(clone(search.estimator).set_params(**clone(params, safe=False)).search)
        for params in search.cv_results_["params"]
    ]
    assert found == [
        "PEP(target_sparsity=0.3)",
        "PEP(target_sparsity=0.6)",
        "AutoFIS(max_interactions=1)",
        "AutoFIS(max_interactions=2)",
    ]
    assert str(search.best_estimator_.search) == found[search.best_index_]
    # Candidates are cloned, the user's objects are left alone.
    assert str(values[0]["search"][0]) == "PEP()"


@pytest.mark.parametrize(
    "values", [[None, AutoFIS(), [AutoDim(), AutoFIS()]], [[AutoDim(), AutoFIS()]]]
)
def test_a_list_of_papers_is_one_candidate(clicks, values):
    search = grid(CTRClassifier(network="fm", **OPTIONS), {"search": values}, clicks)
    assert len(search.cv_results_["params"]) == len(values)
    search = grid(CTRClassifier(network="fm", **OPTIONS), {"search": values[-1:]}, clicks)
    best = search.best_estimator_
    assert list(best.architecture_) == [
        "embedding",
        "interaction",
        "network",
        "embedding_dim",
        "numeric_embedding",
    ]
    assert len(best.search_history_) == 2 * best.max_epochs  # one search after the other
    assert best.search[0] is not values[-1][0]  # cloned


def test_two_workers_report_the_scores_of_one(clicks):
    values = {
        "ctr__network": ["fm"],
        "ctr__search": [None, AutoFIS(), PEP(), [AutoDim(), AutoFIS()]],
    }
    alone = figures(grid(pipeline(), values, clicks))
    with parallel_config(backend="loky", inner_max_num_threads=1):
        together = figures(grid(pipeline(), values, clicks, n_jobs=2))
        threads = Parallel(n_jobs=2)(delayed(torch.get_num_threads)() for _ in range(2))
    get_reusable_executor().shutdown(wait=True)
    assert alone.keys() == together.keys() and "split1_test_score" in alone
    for name in alone:
        np.testing.assert_array_equal(alone[name], together[name])
    assert len(np.unique(alone["split0_test_score"])) > 2
    assert threads == [1, 1]


def test_a_paper_that_does_not_fit_the_network_leaves_the_others_alone(clicks):
    values = {"ctr__network": ["fm", "lr"], "ctr__search": [AutoFIS(), None]}
    with (
        pytest.warns(
            FitFailedWarning,
            match=r"(?s)2 fits failed out of a total of 8.*AutoFIS\(\) searches the 'int.*LR",
        ),
        pytest.warns(UserWarning, match="test scores are non-finite"),
    ):
        search = grid(pipeline(), values, clicks, error_score=np.nan)
    failed = [
        params["ctr__network"] == "lr" and params["ctr__search"] is not None
        for params in search.cv_results_["params"]
    ]
    assert sum(failed) == 1
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), failed)
    assert search.best_index_ != failed.index(True) and search.score(*clicks) > 0.6
    with pytest.raises(
        ValueError, match=r"'interaction' slot, which network=LR\(\) does not have.*deepfm.*fm"
    ):
        grid(pipeline(), values, clicks, error_score="raise")


def test_clones_are_equal_and_independent():
    model = pipeline(
        network=DeepFM(hidden_units=(4,)), search=PEP(target_sparsity=0.7, granularity="field")
    )
    copy = clone(model)
    assert plain(copy[-1].get_params()) == plain(model[-1].get_params())
    assert copy.get_params()["ctr__search__granularity"] == "field"
    copy.set_params(ctr__search__target_sparsity=0.5, ctr__network__hidden_units=(8,))
    assert model[-1].search.target_sparsity == 0.7 and model[-1].network.hidden_units == (4,)
    assert copy[-1].search.target_sparsity == 0.5 and copy[-1].network.hidden_units == (8,)
    several = clone(CTRClassifier(search=[AutoDim((1, 2)), AutoFIS(threshold=0.1)]))
    assert [str(method) for method in several.search] == [
        "AutoDim(candidates=(1, 2))",
        "AutoFIS(threshold=0.1)",
    ]
