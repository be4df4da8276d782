"""Python blocks of the pages that are no dialogue run as they stand there, on a small table."""

import importlib
import pkgutil
import re
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import sklearn_autorec
from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import AutoDim
from sklearn_autorec.estimators import _settings
from sklearn_autorec.feature_selection import RandomSubset
from sklearn_autorec.interaction import AutoCTR, AutoFIS

TESTS = Path(__file__).parent
DOC = TESTS.parent / "doc"
# What a reader would give more time; the rest of a block runs as written.
SHORTER = {
    "n_jobs=4": "n_jobs=1",
    "n_jobs=2": "n_jobs=1",
    "max_evaluations=300": "n_initial=4, max_evaluations=6",
    "max_evaluations=60, epochs=3": "population=4, max_evaluations=5, epochs=1",
    "max_evaluations=100": "max_evaluations=5",
    "max_evaluations=60": "max_evaluations=5",
    "max_crosses=10": "max_crosses=10, n_instances=2, n_perturbations=64",
    "prefit=True": "prefit=True, n_instances=2, n_perturbations=64",
    "RULE(budget=0.5)": "RULE(0.5, n_samples=4, n_evaluations=20, population=4)",
    'search__budget": [0.1, 0.5]': 'search__budget": [0.5]',
    "search_epochs=20": "search_epochs=2",
    "search_epochs=10": "search_epochs=2",
}
# Blocks by a line of theirs that want another machine or a package that no extra brings, and the
# file that tests what they show.
ELSEWHERE = {
    "import duckdb": "test_frames.py",
    'Client("scheduler:8786")': "model_selection/test_distributed.py",
    'os.environ["RANK"]': "test_distributed_fits.py",
    "client.register_worker_callbacks": "model_selection/test_distributed.py",
}
FIELDS = ("user", "item", "user_group", "item_group", "weekday", "hour", "device", "brand")


def blocks():
    """Pages, numbers of lines and texts of all Python blocks without a prompt."""
    for page in sorted([*DOC.glob("*.rst"), *DOC.glob("user_guide/*.rst")]):
        text = page.read_text(encoding="utf-8")
        pattern = r"^( *)\.\. code-block:: python\n((?:\1 +[^\n]*\n|\n)+)"
        for match in re.finditer(pattern, text, re.MULTILINE):
            if not re.search(r"^\s*>>> ", match[2], re.MULTILINE):
                line = text[: match.start()].count("\n") + 1
                yield page.relative_to(DOC).as_posix(), line, textwrap.dedent(match[2]).strip()


BLOCKS = list(blocks())
HERE = [block for block in BLOCKS if not any(line in block[2] for line in ELSEWHERE)]


def small_table(n=240, n_values=6):
    """A table of few values, whose first two columns act together, and clicks."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, n_values, (n, len(FIELDS)))
    X = pd.DataFrame({name: [f"v{code}" for code in codes[:, k]] for k, name in enumerate(FIELDS)})
    return X, (rng.uniform(size=n) < 0.2 + 0.6 * ((codes[:, 0] + codes[:, 1]) % 2)).astype(int)


def public_names():
    """Everything that the package's modules list, by name."""
    names = dict(vars(sklearn_autorec))
    for module in pkgutil.iter_modules(sklearn_autorec.__path__):
        if not module.name.startswith("_"):
            public = importlib.import_module(f"sklearn_autorec.{module.name}")
            names |= {name: getattr(public, name) for name in getattr(public, "__all__", [])}
    return names


def of_page(page, X, y):
    """What a page has spoken of before a block of it begins."""
    if page in ("user_guide/crossing.rst", "user_guide/inspection.rst"):
        options = {"network": "fm", "max_epochs": 1, "random_state": 0}
        search = [AutoDim(), AutoFIS(threshold=0, max_interactions=3)]
        pairs = CTRClassifier(search=search, **options).fit(X, y)
        if page == "user_guide/crossing.rst":
            aefe = sklearn_autorec.feature_crossing.AEFE(max_features=1, random_state=0)
            return {"model": pairs, "aefe": aefe, "crosses": [("user", "item")], "X_valid": X}
        evolved = AutoCTR(max_blocks=2, max_evaluations=4, population=4)
        linear = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
        subsets = RandomSubset(linear, max_evaluations=3, random_state=0)
        return {
            "model": pairs,
            "network": CTRClassifier(search=evolved, **options).fit(X, y),
            "selector": subsets.fit(X, y),
            "other_selector": subsets.fit(X, y),
            "table": [
                ("Hashing", 1000, 0.6, 0.01),
                ("NIS", 900, 0.7, 0.01),
                ("dense", 4000, 0.7, 0),
            ],
        }
    if page == "user_guide/encoding.rst":
        X.assign(label=y).to_parquet("impressions.parquet", row_group_size=100)
    return {
        "user_guide/feature_selection.rst": {
            "model": LogisticRegression(),
            "fitted_network": CTRClassifier(network="fm"),
        },
        "user_guide/choosing.rst": {
            "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
        },
        "tutorial.rst": {"default": CTRClassifier(random_state=0), "X_train": X, "y_train": y},
    }.get(page, {})


@pytest.mark.filterwarnings("ignore::UserWarning")  # of so few rows
@pytest.mark.parametrize("page, line, text", HERE, ids=[f"{b[0]}:{b[1]}" for b in HERE])
def test_a_block_runs(page, line, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_settings, "MOST_EPOCHS", 2)
    monkeypatch.setattr(_settings, "EPOCHS_OF_FEW", 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # one block asks for one
    if "sklearn.callback" in text:
        pytest.importorskip("sklearn.callback", reason="progress bars need scikit-learn 1.9")
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    X, y = small_table(n_values=60 if "Hashing" in text else 6)
    if page in (
        "user_guide/feature_selection.rst",
        "user_guide/crossing.rst",
        "user_guide/choosing.rst",
    ):
        X = X.apply(lambda column: column.str[1:].astype(int))  # for models that take numbers alone
    names = {
        **public_names(),
        **{tool.__name__: tool for tool in TOOLS},
        "X": X,
        "y": y,
        "X_new": X[:5],
        "X_large": X,
        "y_large": y,
        "X_small": X[:100],
        "y_small": y[:100],
        "chunks": [(X[k : k + 80], y[k : k + 80]) for k in (0, 80, 160)],
        "searched": CTRClassifier(
            network="fm",
            search=AutoFIS(threshold=0, max_interactions=2),
            max_epochs=1,
            random_state=0,
        ).fit(X, y),
        **of_page(page, X, y),
    }
    exec(compile(text, f"{page}:{line}", "exec"), names)


TOOLS = (
    FrozenEstimator,
    GridSearchCV,
    HistGradientBoostingClassifier,
    KNeighborsClassifier,
    LogisticRegression,
    OneHotEncoder,
    RandomForestClassifier,
    Ridge,
    SelectFromModel,
    make_pipeline,
)


def test_shortened_words_stand_in_blocks():
    texts = "\n".join(text for _, _, text in HERE)
    assert [long for long in SHORTER if long not in texts] == []


def test_what_does_not_run_here_is_tested_elsewhere():
    for line, path in ELSEWHERE.items():
        assert sum(line in text for _, _, text in BLOCKS) == 1, line
        assert (TESTS / path).exists()
    assert len(HERE) == len(BLOCKS) - len(ELSEWHERE) > 30
