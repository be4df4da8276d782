"""What people use, each as one estimator over raw tables: text and float columns in, probabilities
(or ratings) out.

All of them have ``fit(X, y, X_val=None, y_val=None)`` where they stop early or are tuned;
validation rows serve for nothing else. Encoding is part of the estimator, so that its pickle is the
whole artifact and a raw row can be predicted. Each uses one thread."""

import time

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import KFold, ParameterSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils import check_random_state

from sklearn_autorec.feature_crossing import AutoCross

PATIENCE = 50  # trees without a better validation loss
MOST_TREES = 2000
TRIALS = 20
SECONDS_A_FIT = 600  # processor seconds after which CatBoost gives up, and says so
HGB_CATEGORIES = 254  # what HistGradientBoosting can split by


class CodedColumns(BaseEstimator):
    """Text columns as codes of the values seen in fit, others as they are; missing and unseen
    values as NaN.
    """

    def fit(self, X):
        """Remember the values of each text column."""
        text = [
            i for i, column in enumerate(X) if not pd.api.types.is_numeric_dtype(X[column].dtype)
        ]
        self.values_ = {i: pd.Index(X.iloc[:, i].dropna().unique()) for i in text}
        return self

    def transform(self, X):
        """Floats of shape (n_rows, n_columns)."""
        out = np.empty(X.shape)
        for i, column in enumerate(X):
            if i in self.values_:
                codes = self.values_[i].get_indexer(X[column])
                out[:, i] = np.where(codes < 0, np.nan, codes)
            else:
                out[:, i] = X[column]
        return out


def loss_of(model, encoded, y, classifier):
    """Log loss or squared error of a fitted model."""
    if classifier:
        return log_loss(y, model.predict_proba(encoded)[:, 1], labels=[0, 1])
    return mean_squared_error(y, model.predict(encoded))


class _LightGBM(BaseEstimator):
    """LightGBM with its native treatment of categories.

    ``how`` is "default", "stopped" (early, on the validation rows) or "tuned" (the best of 20
    random draws on the validation rows, each stopped early)."""

    def __init__(self, how="default", trials=TRIALS, random_state=None):
        self.how = how
        self.trials = trials
        self.random_state = random_state

    def _fit_one(self, X, y, valid, **params):
        import lightgbm

        kind = lightgbm.LGBMClassifier if self._classifier else lightgbm.LGBMRegressor
        model = kind(n_jobs=1, verbose=-1, random_state=self.random_state, **params)
        options = {"categorical_feature": list(self.columns_.values_)}
        if valid is not None:
            options |= {"eval_X": valid[0], "eval_y": valid[1]}
            options["callbacks"] = [lightgbm.early_stopping(PATIENCE, verbose=False)]
        return model.fit(X, y, **options)

    def fit(self, X, y, X_val=None, y_val=None):
        """Fit, on codes."""
        self.columns_ = CodedColumns().fit(X)
        X = self.columns_.transform(X)
        if self.how == "default":
            self.model_ = self._fit_one(X, y, None)
            return self
        valid = self.columns_.transform(X_val), y_val
        draws = (
            [{}]
            if self.how == "stopped"
            else ParameterSampler(space(), self.trials, random_state=self.random_state)
        )
        best = np.inf
        for params in draws:
            model = self._fit_one(X, y, valid, n_estimators=MOST_TREES, **params)
            loss = loss_of(model, *valid, self._classifier)
            if loss < best:
                best, self.model_, self.best_params_ = loss, model, params
        self.n_trees_ = self.model_.best_iteration_
        return self


def space():
    """Where the tuned LightGBM is drawn from."""
    from scipy.stats import loguniform, randint, uniform

    return {
        "learning_rate": loguniform(0.02, 0.2),
        "num_leaves": loguniform_integers(7, 255),
        "min_child_samples": loguniform_integers(3, 200),
        "subsample": uniform(0.5, 0.5),
        "subsample_freq": [1],
        "colsample_bytree": uniform(0.4, 0.6),
        "reg_lambda": loguniform(1e-3, 30),
        "cat_smooth": loguniform(1, 100),
        "cat_l2": loguniform(1, 100),
        "min_data_per_group": loguniform_integers(5, 200),
        "max_cat_threshold": randint(16, 257),
    }


class loguniform_integers:
    """Whole numbers whose logarithm is uniform."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def rvs(self, random_state=None):
        """One draw."""
        rng = check_random_state(random_state)
        return int(np.exp(rng.uniform(np.log(self.low), np.log(self.high + 1))))


class LightGBMClassifier(ClassifierMixin, _LightGBM):
    """Clicks."""

    _classifier = True

    def predict_proba(self, X):
        """Probabilities of both classes."""
        return self.model_.predict_proba(self.columns_.transform(X))


class LightGBMRegressor(RegressorMixin, _LightGBM):
    """Ratings."""

    _classifier = False

    def predict(self, X):
        """Ratings."""
        return self.model_.predict(self.columns_.transform(X))


class _CatBoost(BaseEstimator):
    """CatBoost with text columns as its native categories, otherwise as it comes, stopped early on
    the validation rows.
    """

    def __init__(self, iterations=1000, seconds=SECONDS_A_FIT, random_state=None):
        self.iterations = iterations
        self.seconds = seconds
        self.random_state = random_state

    def _readable(self, X):
        """Missing text is a value of its own, as CatBoost wants it."""
        return X.fillna(dict.fromkeys(self.text_, "missing"))

    def fit(self, X, y, X_val=None, y_val=None):
        """Fit, or give up after ``seconds`` with the best trees so far (``gave_up_``)."""
        import catboost

        self.text_ = [c for c in X if not pd.api.types.is_numeric_dtype(X[c].dtype)]
        kind = catboost.CatBoostClassifier if self._classifier else catboost.CatBoostRegressor
        self.model_ = kind(
            iterations=self.iterations,
            thread_count=1,
            random_seed=self.random_state,
            verbose=False,
            allow_writing_files=False,
        )
        clock = _Clock(self.seconds)
        self.model_.fit(
            self._readable(X),
            y,
            cat_features=self.text_,
            eval_set=(self._readable(X_val), y_val),
            early_stopping_rounds=PATIENCE,
            use_best_model=True,
            callbacks=[clock],
        )
        self.gave_up_ = clock.rang
        self.n_trees_ = self.model_.tree_count_
        return self


class _Clock:
    """Tells CatBoost to stop after so many processor seconds."""

    def __init__(self, seconds):
        self.end, self.rang = time.process_time() + seconds, False

    def after_iteration(self, info):
        """Whether to go on."""
        self.rang = time.process_time() > self.end
        return not self.rang


class CatBoostClassifier(ClassifierMixin, _CatBoost):
    """Clicks."""

    _classifier = True

    def predict_proba(self, X):
        """Probabilities of both classes."""
        return self.model_.predict_proba(self._readable(X), thread_count=1)


class CatBoostRegressor(RegressorMixin, _CatBoost):
    """Ratings."""

    _classifier = False

    def predict(self, X):
        """Ratings."""
        return self.model_.predict(self._readable(X), thread_count=1)


class _HistGradientBoosting(BaseEstimator):
    """scikit-learn's boosted trees: categories as they are up to 254 values, target means of
    scikit-learn beyond.
    """

    def __init__(self, max_iter=500, random_state=None):
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y, X_val=None, y_val=None):
        """Fit, stopped early on the validation rows."""
        self.columns_ = CodedColumns().fit(X)
        sizes = {i: len(values) for i, values in self.columns_.values_.items()}
        self.many_ = [i for i, n in sizes.items() if n > HGB_CATEGORIES]
        few = [i for i, n in sizes.items() if n <= HGB_CATEGORIES]
        X = self.columns_.transform(X)
        if self.many_:
            kind = "binary" if self._classifier else "continuous"
            folds = KFold(5, shuffle=True, random_state=self.random_state)
            self.means_ = TargetEncoder(target_type=kind, cv=folds)
            X[:, self.many_] = self.means_.fit_transform(X[:, self.many_], y)
        kind = HistGradientBoostingClassifier if self._classifier else HistGradientBoostingRegressor
        self.model_ = kind(
            max_iter=self.max_iter,
            categorical_features=few,
            early_stopping=True,
            n_iter_no_change=10,  # it keeps the trees that it waited for in vain
            random_state=self.random_state,
        )
        self.model_.fit(X, y, X_val=self._encode(X_val), y_val=y_val)
        self.n_trees_ = self.model_.n_iter_
        return self

    def _encode(self, X):
        X = self.columns_.transform(X)
        if self.many_:
            X[:, self.many_] = self.means_.transform(X[:, self.many_])
        return X


class HGBClassifier(ClassifierMixin, _HistGradientBoosting):
    """Clicks."""

    _classifier = True

    def predict_proba(self, X):
        """Probabilities of both classes."""
        return self.model_.predict_proba(self._encode(X))


class HGBRegressor(RegressorMixin, _HistGradientBoosting):
    """Ratings."""

    _classifier = False

    def predict(self, X):
        """Ratings."""
        return self.model_.predict(self._encode(X))


def one_hot(linear, min_frequency=None):
    """Indicators of text columns, scaled numbers with indicators of missing ones, then a linear
    model.
    """
    columns = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="median", add_indicator=True), StandardScaler()
                ),
                make_column_selector(dtype_include="number"),
            ),
            (
                "text",
                OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=min_frequency),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )
    return make_pipeline(columns, linear)


def one_hot_logistic():
    """One-hot logistic regression."""
    return one_hot(LogisticRegression(C=0.3, max_iter=2000))


def one_hot_ridge():
    """One-hot ridge regression."""
    return one_hot(Ridge(alpha=5.0))


def crossed_logistic(seed):
    """Logistic regression over columns and the crosses that AutoCross finds."""
    return make_pipeline(
        AutoCross(output="onehot", random_state=seed), LogisticRegression(solver="newton-cg")
    )


def crossed_ridge(seed):
    """The same for ratings."""
    return make_pipeline(
        AutoCross(output="onehot", loss="squared_error", random_state=seed), Ridge(alpha=1.0)
    )
