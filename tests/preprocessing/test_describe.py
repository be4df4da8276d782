"""What a fitted encoder says of the columns, as a table and as HTML."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from sklearn_autorec import CTRClassifier
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

COLUMNS = ["column", "field", "kind", "read_as", "n_ids", "missing", "coverage", "reason"]
RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "word": ["a", "b", "a", None, "c"] * 40,
        "age": np.where(np.arange(200) % 4, RNG.integers(18, 60, 200) + 0.0, np.nan) + 0.5,
        "user": RNG.integers(0, 30, 200),
        "items": [["x", "y"], [], None, ["x"], ["z"]] * 40,
        "v": [None if k % 10 == 0 else v for k, v in enumerate(RNG.normal(size=(200, 3)))],
        "time": pd.date_range("2024-01-01", periods=200, freq="5h"),
    }
)


def test_a_row_for_each_field_in_the_order_of_columns():
    encoder = FieldEncoder(min_frequency=41).fit(X)
    told = encoder.describe()
    assert told.columns.tolist() == COLUMNS
    assert sorted(told["field"]) == sorted(encoder.field_names_)
    assert told["column"].drop_duplicates().tolist() == X.columns.tolist()
    by_field = told.set_index("field")
    assert by_field["kind"].to_dict() == {
        field: encoder.kinds_[by_field["column"][field]] for field in by_field.index
    }
    assert by_field["missing"].to_dict() == {
        **dict.fromkeys(by_field.index, 0.0),
        "word": 0.2,
        "age": 0.25,
        "items": 0.4,
        "v": 0.1,
    }
    assert by_field["n_ids"]["word"] == encoder.n_ids_[0] == 3  # "b" and "c" are rare
    assert by_field["coverage"]["word"] == pytest.approx(0.4)
    assert by_field["coverage"]["items"] == pytest.approx(80 / 160)
    assert by_field["coverage"]["age"] == 0.75 and by_field["n_ids"].isna()["age"]
    assert by_field["read_as"]["v"] == "vector of 3"
    assert by_field["reason"]["v"] == "lists of floats, all of one length"
    assert by_field["reason"]["user"] == "whole numbers of 30 values"
    said = FieldEncoder(categorical_features={"user": "id"}).fit(X).describe()
    assert said.set_index("field")["reason"]["user"] == "said by a parameter"


def test_shares_are_by_weight_and_go_on_over_chunks_and_files(tmp_path):
    weight = np.arange(200) % 5 == 3
    encoder = FieldEncoder().fit(X, sample_weight=weight + 1.0)
    assert encoder.describe().set_index("field")["missing"]["word"] == pytest.approx(80 / 240)
    whole, chunks = FieldEncoder().fit(X), FieldEncoder()
    for start in (0, 100):
        chunks.partial_fit(X[start : start + 100])
    columns = ["missing", "coverage", "n_ids"]
    pd.testing.assert_frame_equal(chunks.describe()[columns], whole.describe()[columns])
    save(whole, tmp_path / "encoder")
    pd.testing.assert_frame_equal(load(tmp_path / "encoder").describe(), whole.describe())
    with pytest.raises(NotFittedError):
        FieldEncoder().describe()


def test_the_table_stands_in_html_and_is_escaped():
    odd = "<script>alert('x')</script>"
    table = X[["word", "age"]].rename(columns={"word": odd})
    encoder = FieldEncoder()
    assert "sklearn-autorec-fields" not in encoder._repr_html_()
    encoder.fit(table)
    model = CTRClassifier(network="lr", max_epochs=1, device="cpu").fit(table, np.arange(200) % 2)
    frozen = CTRClassifier(
        network="lr", max_epochs=1, device="cpu", encoder=FrozenEstimator(encoder)
    ).fit(table, np.arange(200) % 2)
    for fitted in (encoder, model, frozen):
        for html in (fitted._repr_html_(), fitted._repr_mimebundle_()["text/html"]):
            own = html[html.index('<details class="sklearn-autorec-fields">') :]
            assert "<script>alert" not in own
            assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in own
            assert "<td>25.00%</td>" in own and '<th scope="col">coverage</th>' in own
