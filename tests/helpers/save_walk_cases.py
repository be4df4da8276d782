"""What the tests of saved models of every class share."""

import numpy as np
from save_cases import OPTIONS, SMALL
from sklearn import preprocessing
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from sklearn_autorec import (
    CrossedLinearClassifier,
    CrossedLinearRegressor,
    CTRClassifier,
    RatingRegressor,
)
from sklearn_autorec.feature_crossing import (
    AEFE,
    GLIDER,
    AutoCross,
    FieldCrosser,
    TargetStatistics,
)
from sklearn_autorec.feature_selection import (
    FSTD,
    MARLFS,
    DualAgent,
    FieldSelector,
    OptFS,
    RandomSubset,
    SensitivitySelector,
)
from sklearn_autorec.preprocessing import FieldEncoder

CTR = CTRClassifier(network="fm", **OPTIONS)
RATING = RatingRegressor(network="fm", **OPTIONS)
NUMBERS, WORDS, FULL = ["x0", "x1"], ["f0", "f1"], ["f0"]
EVERY = [*WORDS, *NUMBERS]
CLASSES = 3  # marks models of several classes
BINS = {"n_bins": 4, "subsample": None, "quantile_method": "averaged_inverted_cdf"}
FEW = {
    "n_pairs": 2,
    "max_epochs": 2,
    "min_gain": 0.0,
    "patience": 20,
    "importance_quantile": 0.0,
    "random_state": 0,
}
LOGISTIC = make_pipeline(preprocessing.OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
ONES = ColumnTransformer(
    [
        ("w", preprocessing.OneHotEncoder(handle_unknown="ignore"), FULL),
        ("n", preprocessing.StandardScaler(), NUMBERS),
    ]
)

# Of each class: models and the columns that they read.
OURS = {
    CTRClassifier: [(CTRClassifier(network=SMALL, **OPTIONS), EVERY)],
    RatingRegressor: [(RATING, EVERY)],
    CrossedLinearClassifier: [
        (CrossedLinearClassifier(max_crosses=1, n_folds=1, random_state=0), EVERY)
    ],
    CrossedLinearRegressor: [
        (CrossedLinearRegressor(max_crosses=1, n_folds=1, random_state=0), EVERY)
    ],
    FieldEncoder: [(FieldEncoder(), EVERY)],
    FieldCrosser: [(FieldCrosser([("f0", "f1"), ("f0", "x0")]), EVERY)],
    AutoCross: [(AutoCross(max_crosses=1, n_folds=1, min_gain=0.0, random_state=0), EVERY)],
    AEFE: [
        (AEFE(paradigms=p, max_ids=m, **FEW), EVERY)
        for p, m in ((("concat", "target"), 9), (("count", "nunique", "ratio", "target"), 50))
    ],
    GLIDER: [
        (GLIDER(m, max_crosses=2, n_instances=4, n_perturbations=50, random_state=0), EVERY)
        for m in (CTR, RATING)
    ],
    TargetStatistics: [(TargetStatistics(), EVERY)],
    FSTD: [(FSTD(LogisticRegression(), max_evaluations=3, random_state=0), NUMBERS)],
    MARLFS: [(MARLFS(CTR, max_evaluations=3, cv=2, random_state=0), EVERY)],
    DualAgent: [(DualAgent(LogisticRegression(), max_evaluations=3, random_state=0), NUMBERS)],
    RandomSubset: [
        (RandomSubset(n_features_to_select=1, random_state=0), EVERY),
        (RandomSubset(LOGISTIC, max_evaluations=2, random_state=0), WORDS),
    ],
    SensitivitySelector: [(SensitivitySelector(CTR, cv=2, random_state=0), EVERY)],
    FieldSelector: [
        (FieldSelector(n_features_to_select=2, estimator=CTR, random_state=0), EVERY),
        (FieldSelector(OptFS(), estimator=CTR, random_state=0), EVERY),
    ],
}
THEIRS = {
    preprocessing.StandardScaler: [
        (preprocessing.StandardScaler(), NUMBERS),
        (preprocessing.StandardScaler(with_std=False), NUMBERS),
    ],
    preprocessing.MinMaxScaler: [(preprocessing.MinMaxScaler(clip=True), NUMBERS)],
    preprocessing.MaxAbsScaler: [(preprocessing.MaxAbsScaler(), NUMBERS)],
    preprocessing.RobustScaler: [
        (preprocessing.RobustScaler(), NUMBERS),
        (preprocessing.RobustScaler(with_centering=False), NUMBERS),
    ],
    preprocessing.QuantileTransformer: [
        (preprocessing.QuantileTransformer(n_quantiles=20, output_distribution=d), NUMBERS)
        for d in ("uniform", "normal")
    ],
    preprocessing.PowerTransformer: [
        (preprocessing.PowerTransformer(), NUMBERS),
        (preprocessing.PowerTransformer("box-cox", standardize=False), ["x1"]),
    ],
    preprocessing.Normalizer: [(preprocessing.Normalizer(), NUMBERS)],
    preprocessing.Binarizer: [(preprocessing.Binarizer(threshold=0.3), NUMBERS)],
    preprocessing.KBinsDiscretizer: [
        (preprocessing.KBinsDiscretizer(encode=e, strategy=s, **BINS), NUMBERS)
        for e, s in (("onehot", "quantile"), ("onehot-dense", "uniform"), ("ordinal", "kmeans"))
    ],
    preprocessing.OneHotEncoder: [
        (
            preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20),
            WORDS,
        ),
        (preprocessing.OneHotEncoder(drop="first"), WORDS),
    ],
    preprocessing.OrdinalEncoder: [
        (preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), WORDS)
    ],
    preprocessing.TargetEncoder: [
        (preprocessing.TargetEncoder(random_state=0), WORDS),
        (preprocessing.TargetEncoder(random_state=0, target_type="continuous", smooth=3.0), WORDS),
        (preprocessing.TargetEncoder(random_state=0), WORDS, CLASSES),
    ],
    SimpleImputer: [
        (SimpleImputer(strategy="most_frequent"), WORDS),
        (SimpleImputer(add_indicator=True), NUMBERS),
    ],
    VarianceThreshold: [(VarianceThreshold(0.01), NUMBERS)],
    preprocessing.FunctionTransformer: [(preprocessing.FunctionTransformer(), EVERY)],
    LogisticRegression: [(LogisticRegression(), NUMBERS), (LogisticRegression(), NUMBERS, CLASSES)],
    Ridge: [(Ridge(), NUMBERS), (Ridge(fit_intercept=False), NUMBERS)],
    RidgeCV: [(RidgeCV(), NUMBERS), (RidgeCV(store_cv_results=True), NUMBERS)],
    LinearRegression: [(LinearRegression(), NUMBERS)],
    ColumnTransformer: [(ONES, EVERY)],
    FeatureUnion: [
        (
            FeatureUnion(
                [
                    ("s", preprocessing.StandardScaler()),
                    ("q", preprocessing.RobustScaler()),
                    ("d", "drop"),
                ]
            ),
            NUMBERS,
        )
    ],
    Pipeline: [
        (make_pipeline(ONES, CTR), EVERY),
        (make_pipeline(FieldSelector(n_features_to_select=2, estimator=RATING), RATING), EVERY),
        (
            make_pipeline(
                FeatureUnion(
                    [
                        ("s", preprocessing.StandardScaler()),
                        ("k", preprocessing.KBinsDiscretizer(**BINS)),
                    ]
                ),
                LogisticRegression(),
            ),
            NUMBERS,
        ),
    ],
    FrozenEstimator: [(FrozenEstimator(CTR), EVERY), (FrozenEstimator(LOGISTIC), FULL)],
    CalibratedClassifierCV: [
        (CalibratedClassifierCV(CTR, method="sigmoid", cv=2), EVERY),
        (CalibratedClassifierCV(CTR, method="isotonic", cv=2, ensemble=False), EVERY),
        (CalibratedClassifierCV(CTR, method="temperature", cv=2), EVERY, CLASSES),
        (CalibratedClassifierCV(CTR, method="isotonic", cv=2), EVERY, CLASSES),
        (CalibratedClassifierCV(make_pipeline(ONES, CTR), cv=2), EVERY),
    ],
    VotingClassifier: [
        (VotingClassifier([("a", CTR), ("b", LOGISTIC), ("c", "drop")], voting="soft"), FULL),
        (VotingClassifier([("a", CTR), ("b", LOGISTIC)], voting="hard"), FULL, CLASSES),
    ],
    VotingRegressor: [
        (VotingRegressor([("a", RATING), ("b", make_pipeline(ONES, Ridge()))]), EVERY)
    ],
    StackingClassifier: [
        (StackingClassifier([("a", CTR), ("b", LOGISTIC), ("c", "drop")], cv=2), FULL),
        (StackingClassifier([("a", CTR), ("b", LOGISTIC)], cv=2), FULL, CLASSES),
    ],
    StackingRegressor: [
        (
            StackingRegressor(
                [("a", RATING), ("b", make_pipeline(ONES, Ridge()))], final_estimator=final, cv=2
            ),
            EVERY,
        )
        for final in (None, Ridge(), LinearRegression())
    ],
}


def fitted(model, columns, table, classes=None):
    """A model of some columns fitted, and their rows."""
    X, clicks, ratings = table
    X = X[columns]
    y = clicks if classes is None else (X["f0"].str[1:].astype(int) if "f0" in X else clicks)
    if classes is not None:
        y = (np.asarray(y) + np.arange(len(X)) % 2) % classes
    regression = getattr(model, "target_type", "") == "continuous" or (
        model.__sklearn_tags__().estimator_type == "regressor"
        or type(getattr(model, "estimator", None)) is RatingRegressor
        or any(isinstance(s, Ridge | RatingRegressor) for _, s in getattr(model, "steps", ()))
    )
    if isinstance(model, FrozenEstimator):
        model.estimator.fit(X, y)
        return model, X
    return clone(model).fit(X, ratings if regression else y), X


def output(model, X):
    method = next(m for m in ("predict_proba", "predict", "transform") if hasattr(model, m))
    found = getattr(model, method)(X)
    return found.toarray() if hasattr(found, "toarray") else np.asarray(found)
