"""What cannot be saved."""

import pickle

import numpy as np
import pytest
import torch
from save_cases import OPTIONS, SMALL
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    StandardScaler,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import PEP
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save


def again(model, tmp_path):
    save(model, tmp_path / "model")
    return load(tmp_path / "model")


class OwnNetwork(FM):
    pass


class OwnEncoder(FieldEncoder):
    pass


def test_objects_of_other_classes_are_named(clicks, tmp_path):
    X, y = clicks
    numbers = X[["f0"]]
    with pytest.raises(
        TypeError, match=r"'cluster'.*KMeans.*Allowed are.*CTRClassifier.*StandardScaler"
    ):
        save(
            Pipeline([("s", StandardScaler()), ("cluster", KMeans(2, random_state=0))]).fit(
                numbers
            ),
            tmp_path / "m",
        )
    with pytest.raises(TypeError, match=r"CTRClassifier.network is OwnNetwork\(\)"):
        save(CTRClassifier(network=OwnNetwork(), **OPTIONS).fit(X, y), tmp_path / "m")
    with pytest.raises(TypeError, match="OwnEncoder"):
        save(CTRClassifier(network="fm", encoder=OwnEncoder(), **OPTIONS).fit(X, y), tmp_path / "m")
    with pytest.raises(TypeError, match="FunctionTransformer with a function"):
        save(make_pipeline(FunctionTransformer(np.log1p)).fit(numbers), tmp_path / "m")
    with pytest.raises(TypeError, match="memory"):
        save(
            Pipeline([("s", StandardScaler())], memory=str(tmp_path / "cache")).fit(numbers),
            tmp_path / "m",
        )
    scaler = StandardScaler().fit(numbers)
    scaler.note = lambda: 1
    with pytest.raises(TypeError, match="note"):
        save(scaler, tmp_path / "m")
    with pytest.raises(TypeError, match="fitted estimator, got"):
        save({"a": 1}, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_models_not_fitted(tmp_path):
    for model in (
        CTRClassifier(),
        FieldEncoder(),
        make_pipeline(StandardScaler(), CTRClassifier()),
    ):
        with pytest.raises(NotFittedError):
            save(model, tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [{"network": "fm"}, {"embedding_dim": 5}, {"search": None}, {"search": PEP()}, {"lr": 0.5}],
)
def test_parameters_for_the_next_fit_do_not_matter(clicks, tmp_path, change):
    X, y = clicks
    model = CTRClassifier(network=SMALL, search=AutoFIS(threshold=0.3), **OPTIONS).fit(X, y)
    expected = model.predict_proba(X)
    loaded = again(model.set_params(**change), tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    (name,) = change
    assert repr(loaded.get_params(deep=False)[name]) == repr(change[name])


def test_models_that_could_not_be_loaded_are_not_saved(clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(network=SMALL, **OPTIONS).fit(X, y)
    for broken in (
        pickle.loads(pickle.dumps(model)).set_params(lr=-1),
        pickle.loads(pickle.dumps(model)),
    ):
        if broken.lr is None:
            broken.net_.module_.linear = torch.nn.Linear(2, 3)
        with pytest.raises(ValueError, match="changed after fit"):
            save(broken, tmp_path / "m")
    assert not (tmp_path / "m").exists()
