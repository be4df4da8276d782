from functools import partial

import numpy as np
import pytest
from fuzz_cases import predictions
from save_cases import OPTIONS, SMALL
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    StandardScaler,
)
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.feature_crossing import AutoCross
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.networks import AutoInt, DCNv2, DeepFM
from sklearn_autorec.nn import FORMS, _masked, mask_to_text, pack_table
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import save


@pytest.fixture(scope="session")
def clicks_with_gaps():
    """A function: clicks on columns of all kinds, f0 of whole numbers, f1 and x0 with gaps."""

    def table(n, **options):
        X, y = mixed_clicks(n, cardinality=8, **options)
        X["f0"] = X["f0"].str[1:].astype(int)
        X.loc[X.index[::7], ["f1", "x0"]] = None
        return X, y

    return table


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """By name: bytes of the file, rows, predictions of the model."""
    X, y, _ = make_ctr(400, n_fields=4, cardinality=6, n_numeric=1, n_sequences=1, random_state=0)
    X["f0"] = X["f0"].str[1:].astype(int)
    options = {"embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    texts = X[["f1", "f2"]].assign(f2=lambda t: t["f2"].where(t["f2"] != "v0", None))
    columns = ColumnTransformer(
        [
            ("one", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20), ["f1"]),
            (
                "two",
                Pipeline(
                    [("fill", SimpleImputer(strategy="most_frequent")), ("o", OrdinalEncoder())]
                ),
                ["f2"],
            ),
            ("rest", "passthrough", ["x0"]),
        ]
    )
    small = DeepFM(hidden_units=(4,))
    crosses = AutoCross(
        output="onehot", max_crosses=2, n_bins=3, n_folds=1, min_gain=0.0, random_state=0
    )
    models = {
        "clicks": (CTRClassifier(network=small, search=AutoFIS(), **options), X),
        "attention": (
            CTRClassifier(network=AutoInt(hidden_units=(3,), n_heads=1, width=2), **options),
            X,
        ),
        "cross": (
            RatingRegressor(network=DCNv2(hidden_units=(3,), rank=2, n_cross_layers=1), **options),
            X,
        ),
        "sparse": (CTRClassifier(network="fm", search=PEP(target_sparsity=0.95), **options), X),
        "bits": (
            CTRClassifier(
                network=small, search=PEP(target_sparsity=0.5), **options | {"embedding_dim": 8}
            ),
            X,
        ),
        "widths": (
            RatingRegressor(
                network=small, search=AutoDim(candidates=(0, 1, 2)), **options | {"random_state": 1}
            ),
            X,
        ),
        "encoder": (FieldEncoder(numeric="standard", hash_threshold=8, n_hash_buckets=4), X),
        "scaled": (
            Pipeline([("s", StandardScaler()), ("m", RatingRegressor(network="fm", **options))]),
            X[["x0"]],
        ),
        "mixed": (
            Pipeline([("c", columns), ("l", LogisticRegression())]),
            texts.assign(x0=X["x0"].to_numpy()),
        ),
        "crossed": (
            CrossedLinearClassifier(
                max_crosses=2, min_gain=0.0, n_bins=(2, 4), n_folds=1, random_state=0
            ),
            X,
        ),
        "parts": (
            CTRClassifier(network=small, wide="autocross", target_statistics=True, **options),
            X,
        ),
        "stacked": (
            StackingClassifier(
                [
                    ("c", CalibratedClassifierCV(CTRClassifier(network="fm", **options), cv=2)),
                    (
                        "b",
                        Pipeline(
                            [("q", QuantileTransformer(n_quantiles=9)), ("l", LogisticRegression())]
                        ),
                    ),
                ],
                cv=2,
            ),
            X[["x0"]],
        ),
        "pairs": (Pipeline([("c", crosses), ("l", LogisticRegression(max_iter=500))]), X),
    }
    found = {}
    for name, (model, rows) in models.items():
        model.fit(
            rows,
            y
            if name in ("clicks", "sparse", "bits", "mixed", "pairs", "crossed", "parts", "stacked")
            else y.astype(float),
        )
        path = tmp_path_factory.mktemp("fuzz") / name
        save(model, path)
        found[name] = path.read_bytes(), rows, predictions(model, rows)
    for form in ("sparse", "bits"):
        assert models[form][0].net_.module_.embedding.form == form
    assert len(set(models["widths"][0].embedding_sizes_.values())) > 1
    assert crosses.crosses_
    assert set(models["parts"][0].part_weights_) == {"network", "wide", "target_statistics"}
    return found


@pytest.fixture(scope="session")
def clicks(clicks_with_gaps):
    return clicks_with_gaps(500)


@pytest.fixture(scope="session")
def data(clicks, tmp_path_factory):
    """The bytes of a small model's file."""
    path = tmp_path_factory.mktemp("data") / "model"
    save(CTRClassifier(network=SMALL, search=AutoFIS(threshold=0.3), **OPTIONS).fit(*clicks), path)
    return path.read_bytes()


@pytest.fixture(scope="session")
def visits():
    """Rows with enough values that every form of packed table can pay."""
    return mixed_clicks(1000, n_fields=3, pairs=2, cardinality=100, n_numeric=2)


@pytest.fixture(scope="session")
def pruned(visits):
    """By form of its packed table: a fitted model, 12 columns wide."""
    X, y = visits
    encoder = FieldEncoder().fit(X)
    sizes, d = [*encoder.n_ids_, *encoder.sequence_n_ids_], 12
    rng = np.random.default_rng(0)
    field = np.repeat(np.arange(len(sizes)), sizes)
    number = np.concatenate([np.arange(n) for n in sizes])
    masks = {
        "dense": np.ones((sum(sizes), d), bool),
        "columns": np.array(
            [[True] * 5 + [False] * 7, [False] * 12, [False, True] * 6, [True] * 12]
        )[field],
        "prefixes": np.arange(d) < 12 - np.ceil(np.log2(number + 1))[:, None],
        "sparse": rng.random((sum(sizes), d)) < 0.05,
        "bits": rng.random((sum(sizes), d)) < 0.4,
    }
    assert len(sizes) == 4
    models = {}
    for form in FORMS:
        mask = masks.get(form, masks["bits"])
        search = FixedArchitecture({"method": "PEP", "params": {}, "mask": mask_to_text(mask)})
        model = CTRClassifier(network="fm", search=search, **OPTIONS | {"embedding_dim": d})
        with pytest.MonkeyPatch.context() as patch:
            if form not in masks:  # it is the smallest of other tables
                patch.setattr(_masked, "pack_table", partial(pack_table, forms=[form]))
            models[form] = model.fit(X, y)
        assert models[form].net_.module_.embedding.form == form
        np.testing.assert_array_equal(models[form].net_.module_.embedding.mask(), mask)
    return models
