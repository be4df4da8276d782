"""Model files of everything that people deploy: each estimator and transformer of the package, and
those of scikit-learn that stand around them.
"""

import importlib
import inspect
import pkgutil
import warnings

import numpy as np
import pandas as pd
import pytest
from save_refusals_cases import forged
from save_walk_cases import CTR, FULL, LOGISTIC, NUMBERS, OURS, THEIRS, fitted, output
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    TargetEncoder,
)
from small_tables import mixed_clicks

import sklearn_autorec
from sklearn_autorec.base import Network, SearchMethod
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import (
    AEFE,
    GLIDER,
)
from sklearn_autorec.feature_selection import (
    FSTD,
    FieldSelector,
)
from sklearn_autorec.model_selection import BayesSearchCV
from sklearn_autorec.serving import _container, load, save
from sklearn_autorec.serving._save import _loads
from sklearn_autorec.serving._step_table import PARTS_ONLY
from sklearn_autorec.serving._steps import STEPS
from sklearn_autorec.utils._sklearn import BaseSearchCV


@pytest.fixture(scope="module")
def table():
    """Rows of words with gaps, whole and other numbers; clicks and ratings."""
    X, y = mixed_clicks(300, cardinality=6)
    X = X[["f0", "f1", "x0"]].assign(x1=np.exp(X["x0"]) + 0.1)
    X.loc[X.index[::9], "f1"] = None
    return X, y, y + X["x1"].to_numpy() / 4


CASES = [(cls, *case) for known in (OURS, THEIRS) for cls in known for case in known[cls]]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "case", CASES, ids=[f"{cls.__name__}-{k}" for k, (cls, *_) in enumerate(CASES)]
)
def test_the_same_bits_come_back(case, table, tmp_path):
    cls, model, columns, *classes = case
    model, X = fitted(model, columns, table, *classes)
    assert type(model) is cls and getattr(model, "features_", [1])
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded) is cls
    found, expected = output(loaded, X), output(model, X)
    assert found.dtype == expected.dtype
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected), check_exact=True)
    own = {name for name in vars(model) if name.endswith("_")}
    # What ended a fit is no concern of a loaded model.
    assert own <= set(vars(loaded)) | {"n_features_in_", "stopped_"}
    if hasattr(model, "transform") and cls is not FunctionTransformer:
        assert loaded.get_feature_names_out().tolist() == model.get_feature_names_out().tolist()


def public_estimators():
    """Every public estimator of the package."""
    found = []
    for module in pkgutil.iter_modules(sklearn_autorec.__path__, "sklearn_autorec."):
        # The ground that public names stand on is documented beside them, and holds no estimators.
        if module.name.rpartition(".")[2] not in ("engine", "nn") and "._" not in module.name:
            public = importlib.import_module(module.name)
            found += [getattr(public, name) for name in getattr(public, "__all__", ())]
    return {
        cls
        for cls in filter(inspect.isclass, found)
        if issubclass(cls, BaseEstimator)
        and not issubclass(cls, BaseSearchCV | Network | SearchMethod)
    }


def test_every_estimator_of_the_package_has_a_case():
    known = public_estimators()
    assert known == set(OURS), known ^ set(OURS)


def test_every_step_that_files_may_hold_has_a_case():
    assert set(STEPS) - set(PARTS_ONLY) == set(THEIRS)


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(LogisticRegression(), {"C": [1.0, 2.0]}, cv=2),
        HalvingRandomSearchCV(
            LogisticRegression(),
            {"C": [1.0, 2.0]},
            n_candidates=2,
            cv=2,
            random_state=0,
            min_resources=150,
        ),
        BayesSearchCV(LogisticRegression(), {"C": [1.0, 2.0]}, cv=2, n_iter=2, random_state=0),
    ],
)
def test_of_a_search_its_best_model_is_saved(table, tmp_path, search):
    X = table[0][NUMBERS]
    search.fit(X, table[1])
    for model in (search, Pipeline([("s", search)])):
        with pytest.raises(TypeError, match=rf"{type(search).__name__}, .* best_estimator_"):
            save(model, tmp_path / "model")
    save(search.best_estimator_, tmp_path / "model")
    np.testing.assert_array_equal(
        load(tmp_path / "model").predict_proba(X), search.predict_proba(X)
    )


def test_what_cannot_be_saved_is_named(table, tmp_path):
    X, y, _ = table
    trees = HistGradientBoostingClassifier(max_iter=2)
    code = make_pipeline(FunctionTransformer(np.abs), LogisticRegression()).fit(X[NUMBERS], y)
    stack = StackingClassifier([("a", LogisticRegression()), ("t", trees)], cv=2)
    for model, words in [
        (code, "FunctionTransformer.*no code"),
        (stack.fit(X[NUMBERS], y), r"\['t'\].*HistGradientBoostingClassifier"),
        (
            CalibratedClassifierCV(trees, cv=2).fit(X[NUMBERS], y),
            "estimator is HistGradientBoostingClassifier",
        ),
        (IsotonicRegression().fit([0, 1], [0, 1]), "takes a table"),
    ]:
        with pytest.raises(TypeError, match=words):
            save(model, tmp_path / "model")
    glider = GLIDER(
        make_pipeline(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), trees),
        n_instances=2,
        n_perturbations=20,
    ).fit(X[FULL], y)
    with pytest.raises(TypeError, match=r"GLIDER.estimator.*Or save the GLIDER's crosser_"):
        save(glider, tmp_path / "model")
    save(glider.crosser_, tmp_path / "crosser")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match="not fitted"):
        save(VotingClassifier([("a", CTR)]), tmp_path / "model")


@pytest.fixture(scope="module")
def files(table, tmp_path_factory):
    """By class of THEIRS and of what is new in OURS, the bytes of its first case."""
    found, folder = {}, tmp_path_factory.mktemp("files")
    for cls in (
        QuantileTransformer, PowerTransformer, KBinsDiscretizer, TargetEncoder, Ridge, RobustScaler,
        CalibratedClassifierCV, VotingClassifier, StackingClassifier, FieldSelector, AEFE, GLIDER,
    ):  # fmt: skip
        model, columns, *classes = {**OURS, **THEIRS}[cls][0]
        save(fitted(model, columns, table, *classes)[0], folder / cls.__name__)
        found[cls] = (folder / cls.__name__).read_bytes()
    return found


def attribute(name, change):
    """A change of an attribute in the state of the saved estimator: of its node, or its array."""

    def forge(model, arrays):
        node = model["state"][name]
        if isinstance(node, dict) and node.get("kind") == "array":
            arrays[node["index"]] = np.ascontiguousarray(change(arrays[node["index"]]))
        else:
            model["state"][name] = change(node)

    return forge


def shorter(array):
    return array[:-1]


@pytest.mark.parametrize(
    "cls, name, change",
    [
        (QuantileTransformer, "references_", shorter),
        (QuantileTransformer, "references_", lambda a: a[::-1]),
        (QuantileTransformer, "n_quantiles_", lambda n: n + 1),
        (QuantileTransformer, "quantiles_", lambda a: a[:, :1]),
        (PowerTransformer, "lambdas_", shorter),
        (PowerTransformer, "_scaler", lambda node: 3),
        (KBinsDiscretizer, "n_bins_", lambda a: a + 1),
        (KBinsDiscretizer, "_encoder", lambda node: None),
        (TargetEncoder, "encodings_", lambda node: node[:1]),
        (TargetEncoder, "target_type_", lambda node: "multiclass"),
        (Ridge, "coef_", shorter),
        (Ridge, "coef_", lambda a: a * np.inf),
        (Ridge, "solver_", lambda node: 5),
        (RobustScaler, "scale_", lambda a: a.astype(str).astype("S1").view(np.uint8)),
        (CalibratedClassifierCV, "classes_", lambda a: a[::-1]),
        (CalibratedClassifierCV, "calibrated_classifiers_", lambda node: []),
        (VotingClassifier, "estimators_", lambda node: node[:1]),
        (VotingClassifier, "le_", lambda node: None),
        (StackingClassifier, "stack_method_", lambda node: ["fit", "fit"]),
        (StackingClassifier, "stack_method_", lambda node: ["predict_proba"]),
        (StackingClassifier, "final_estimator_", lambda node: None),
        (FieldSelector, "support", shorter),
        (FieldSelector, "ranking", lambda a: a * 0),
        (FieldSelector, "encoder", lambda node: None),
        (AEFE, "features", lambda node: node[1:]),
        (AEFE, "statistics", lambda node: node[1:]),
        (AEFE, "positions", lambda node: [9]),
        (GLIDER, "crosser", lambda node: None),
        (GLIDER, "scores", lambda a: a * np.nan),
    ],
    ids=lambda v: getattr(v, "__name__", v) if not callable(v) or isinstance(v, type) else "",
)
def test_contradictions_are_refused(files, cls, name, change):
    data = files[cls]
    with pytest.raises(ModelFileError):
        _loads(forged(data, attribute(name, change)))
    with pytest.raises(ModelFileError):
        _loads(data[: len(data) // 2])
    if cls in STEPS:
        with pytest.raises(ModelFileError, match=r"The state of .*must be a dict"):
            _loads(forged(data, lambda model, arrays: model["state"].update(other=1)))


def test_other_versions_of_scikit_learn_are_told(files, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _loads(files[Ridge])
    monkeypatch.setattr(_container.sklearn, "__version__", "1.7.3")
    older = forged(files[Ridge], lambda model, arrays: None)
    damaged = forged(files[Ridge], attribute("coef_", shorter))
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=r"Ridge from version 1\.7\.3"):
        _loads(older)
    with pytest.raises(ModelFileError, match=r"written with scikit-learn 1\.7\.3; this is"):
        _loads(damaged)


def test_a_search_over_more_subsets_than_an_integer_of_64_bits_has(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 70))
    model = FSTD(LogisticRegression(), max_evaluations=3, random_state=0).fit(X, X[:, 69] > 0)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.state_values_ == model.state_values_ and max(model.state_values_) >= 2**64
    np.testing.assert_array_equal(loaded.ranking_, model.ranking_)


def test_rows_with_unknown_values(table, tmp_path):
    X, y, _ = table
    model = StackingClassifier([("a", CTR), ("b", LOGISTIC)], cv=2).fit(X[FULL], y)
    save(model, tmp_path / "model")
    new = pd.DataFrame({"f0": ["never", "v1"]})
    np.testing.assert_array_equal(
        load(tmp_path / "model").predict_proba(new), model.predict_proba(new)
    )
