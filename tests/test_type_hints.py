"""What users call has hints, which a type checker sees in their own scripts."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_autorec
from sklearn_autorec import datasets, inspection, metrics, model_selection, serving

ROOT = Path(sklearn_autorec.__file__).parent
METHODS = {
    *("fit", "partial_fit", "fit_transform", "transform", "predict", "predict_proba"),
    *("decision_function", "score", "encode", "fit_encode", "explain"),
    *("get_feature_names_out", "plot"),
}


def functions():
    """Public functions, and methods that this package defines, by their full names."""
    found = {}
    for module in (serving, metrics, datasets):
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)) and name not in UNTYPED:
                found[f"{module.__name__}.{name}"] = getattr(module, name)
    for package in ("inspection", "model_selection", "feature_crossing", "feature_selection"):
        module = importlib.import_module(f"sklearn_autorec.{package}")
        found |= methods_of(*(getattr(module, name) for name in module.__all__))
    own = [getattr(sklearn_autorec, name) for name in sklearn_autorec.__all__[:4]]
    return found | methods_of(*own, sklearn_autorec.preprocessing.FieldEncoder)


# Made by a function that makes such functions, which says what they take.
UNTYPED = {"fetch_adult", "fetch_avazu_sample", "fetch_criteo_sample", "fetch_frappe"}


def methods_of(*classes):
    found = {}
    for cls in classes:
        if not inspect.isclass(cls):
            continue
        for base in cls.__mro__:
            if not base.__module__.startswith("sklearn_autorec"):
                continue
            for name, method in vars(base).items():
                if name in METHODS or name.startswith("from_"):
                    function = getattr(method, "__func__", method)
                    found.setdefault(f"{cls.__name__}.{name}", function)
    return found


FUNCTIONS = functions()


def test_the_list_is_long():
    assert len(FUNCTIONS) > 90
    assert {"CTRClassifier.fit", "RatingRegressor.predict", "AutoCross.transform"} <= set(FUNCTIONS)
    assert any(name.endswith("SearchCV.fit") for name in FUNCTIONS)
    assert set(inspection.__all__) <= {name.partition(".")[0] for name in FUNCTIONS} | {""}
    assert model_selection.__all__ and "sklearn_autorec.serving.load" in FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_and_the_result_have_hints(name):
    signature = inspect.signature(FUNCTIONS[name])
    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    assert bare == [] and signature.return_annotation is not signature.empty


def test_the_package_says_that_it_has_hints():
    assert (ROOT / "py.typed").read_text() == ""


SCRIPT = """
import numpy as np
import sklearn_autorec
from sklearn_autorec import CrossedLinearClassifier, CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AutoCross
from sklearn_autorec.metrics import grouped_roc_auc_score, normalized_entropy
from sklearn_autorec.model_selection import BayesSearchCV
from sklearn_autorec.serving import load, save, to_onnx

X, y, truth = make_ctr(500, n_fields=4, random_state=0)
array = np.zeros((500, 4))
model = CTRClassifier(network="fm", max_epochs=1).fit(array, y, sample_weight=np.ones(500))
reveal_type(model)  # CTRClassifier
reveal_type(model.partial_fit([["a", 1]], [0], classes=[0, 1]))  # CTRClassifier
reveal_type(model.predict_proba(X))  # ndarray[
reveal_type(model.predict_proba(array, return_std=True)[1])  # ndarray[
reveal_type(RatingRegressor().fit(X, y).predict(X))  # ndarray[
reveal_type(CrossedLinearClassifier().fit(X, y))  # CrossedLinearClassifier
reveal_type(AutoCross().fit(X, y))  # AutoCross
reveal_type(BayesSearchCV(model, {}).fit(X, y))  # BayesSearchCV
reveal_type(normalized_entropy(y, y))  # float
reveal_type(truth)  # CTRTruth
save(model, "clicks.model")
model.fit("rows.csv", y)  # error: arg-type
model.predict_proba(array, std=True)  # error: call-overload
CTRClassifier(netwrok="fm")  # error: call-arg
save(model, 3)  # error: arg-type
to_onnx(model, "clicks.onnx", inputs="raws")  # error: arg-type
load("clicks.model", max_bytes="2")  # error: arg-type
grouped_roc_auc_score(y, y)  # error: call-arg
make_ctr("many")  # error: arg-type
"""


@pytest.mark.slow
def test_a_type_checker_sees_the_hints(tmp_path):
    """mypy reads the package as users do, with half a minute for what it imports."""
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(SCRIPT)
    options = ["--ignore-missing-imports", "--no-error-summary", "--config-file", os.devnull]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", "cache", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
    )
    told = {}
    for number, text in re.findall(r"^user\.py:(\d+): (.+)$", run.stdout, re.MULTILINE):
        told.setdefault(int(number), []).append(text)
    for number, line in enumerate(SCRIPT.splitlines(), 1):
        code, _, expected = line.partition("  # ")
        here = " ".join(told.pop(number, []))
        if "reveal_type" in code:
            assert "Revealed type" in here and expected in here and "error" not in here, line
        elif expected:
            assert f"[{expected.removeprefix('error: ')}]" in here, line
        else:
            assert here == "", line
    assert told == {}
