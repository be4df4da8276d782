"""
From a CSV file to a served model
=================================

A log of impressions comes as a CSV file with strings, numbers and gaps. The estimator takes it as
it is, predicts better than a one-hot logistic regression, and goes into one small file that a
service loads without pickle. See :doc:`/user_guide/default` and :doc:`/user_guide/serving`.
"""

# %%
# A file such as people have it
# -----------------------------
# Four columns act in pairs, ``price`` has a step, and a part of the cells is missing.

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_autorec.datasets import make_ctr

rng = np.random.default_rng(0)
X, y, truth = make_ctr(8000, n_fields=4, cardinality=12, pairs=[(0, 1), (2, 3)], random_state=0)
X.columns = ["user_group", "category", "device", "hour"]
X["price"] = rng.gamma(2.0, 20.0, len(X)).round(2)
y = np.where(X["price"] > 60, rng.random(len(X)) < 0.1, y).astype(int)  # nobody buys the dear ones
X = X.mask(rng.random(X.shape) < 0.03)
folder = Path(tempfile.mkdtemp())
X.assign(click=y).to_csv(folder / "impressions.csv", index=False)
pd.read_csv(folder / "impressions.csv").head()

# %%
# Fit on raw columns
# ------------------

from sklearn.model_selection import train_test_split

from sklearn_autorec import CTRClassifier

frame = pd.read_csv(folder / "impressions.csv")
train, test = train_test_split(frame, random_state=0)
model = CTRClassifier(max_epochs=6, random_state=0)
model.fit(train.drop(columns="click"), train["click"])
model.part_weights_

# %%
# Beside a one-hot logistic regression
# ------------------------------------

import matplotlib.pyplot as plt
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

numbers = make_column_selector(dtype_include="number")
text = make_column_selector(dtype_exclude="number")
linear = make_pipeline(
    make_column_transformer(
        (SimpleImputer(), numbers), (OneHotEncoder(handle_unknown="ignore"), text)
    ),
    LogisticRegression(max_iter=1000),
).fit(train.drop(columns="click"), train["click"])
_, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
for name, estimator in {"CTRClassifier()": model, "one-hot logistic regression": linear}.items():
    RocCurveDisplay.from_estimator(
        estimator, test.drop(columns="click"), test["click"], name=name, ax=ax
    )

# %%
# One file, and one row at a time
# -------------------------------
# The file holds vocabularies, bins and weights, and no code. What is loaded predicts the same
# bits.

from sklearn_autorec import serving

serving.save(model, folder / "model.autorec")
served = serving.load(folder / "model.autorec")
row = test.drop(columns="click").iloc[:1]
print(f"{(folder / 'model.autorec').stat().st_size / 1e3:.0f} kB")
print(served.predict_proba(row)[0, 1] == model.predict_proba(row)[0, 1])
