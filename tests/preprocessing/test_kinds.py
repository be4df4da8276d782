"""What whole numbers, and decimals of few values, are under "auto"."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec.exceptions import DoubtfulKindWarning
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._kinds import choose_kind

# Hints at columns that look odd have tests of their own.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_autorec.exceptions.SuspiciousColumnWarning"
)


def kind_of(column, **options):
    return FieldEncoder(**options).fit(pd.DataFrame({"x": column})).kinds_["x"]


def rng():
    return np.random.default_rng(0)


COLUMNS = {
    "two values": (rng().integers(0, 2, 2000), "id"),
    "days of the week": (rng().integers(0, 7, 2000), "id"),
    "hours of the day": (rng().integers(0, 24, 2000), "both"),
    "ages": (rng().normal(40, 12, 2000).round().clip(18, 90).astype(int), "both"),
    "users": (rng().integers(0, 400, 2000), "id"),
    "users with holes": (rng().choice(rng().choice(30_000, 500, replace=False), 4000), "id"),
    "durations": (np.floor(np.exp(rng().normal(5, 1, 4000))).astype(int), "both"),
    "balances": (np.floor(rng().normal(1000, 3000, 2000)).astype(int), "number"),
    "round amounts": (np.floor(np.exp(rng().normal(7, 2, 4000))).astype(int) // 10 * 10, "number"),
    "times": (1_600_000_000 + rng().integers(0, 10**7, 3000), "number"),
    "row numbers": (rng().permutation(2000), "number"),
    "decimals": (rng().normal(size=2000), "number"),
    "few decimals": (rng().integers(0, 12, 2000) / 4, "both"),
    "few decimals of few rows": (rng().integers(0, 60, 200) / 4, "number"),
    "many decimals of many rows": (rng().integers(0, 300, 6000) / 4, "number"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_values_decide(name):
    column, kind = COLUMNS[name]
    assert kind_of(column) == kind


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.DoubtfulKindWarning")
@pytest.mark.parametrize("name", COLUMNS)
def test_neither_order_nor_whole_weights_matter(name):
    column, kind = COLUMNS[name]
    assert kind_of(np.random.default_rng(1).permutation(column)) == kind
    weight = np.random.default_rng(2).integers(0, 3, len(column))
    repeated = kind_of(np.repeat(column, weight))
    assert (
        FieldEncoder().fit(pd.DataFrame({"x": column}), sample_weight=weight).kinds_["x"]
        == repeated
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_containers_agree(name):
    column, kind = COLUMNS[name]
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    cells = column.tolist()
    for table in (
        pa.table({"x": cells}),
        pl.DataFrame({"x": cells}),
        pd.DataFrame(
            {"x": pd.array(cells, dtype="Int64" if column.dtype.kind == "i" else "Float64")}
        ),
        [[cell] for cell in cells],
    ):
        assert list(FieldEncoder().fit(table).kinds_.values()) == [kind]


def test_missing_cells_do_not_make_a_number_of_an_id():
    users = COLUMNS["users"][0].astype(float)
    users[::10] = np.nan
    assert kind_of(users) == "both"  # pandas has no other way to hold them
    assert kind_of(pd.array(users, dtype="Int64")) == "id"


@pytest.mark.parametrize(
    "column",
    [
        COLUMNS["ages"][0].astype(str),
        pd.Categorical(COLUMNS["ages"][0]),
        COLUMNS["two values"][0].astype(bool),
    ],
    ids=["text", "category", "bool"],
)
def test_what_is_said_by_dtype_stays(column):
    assert kind_of(column) == "id"


def test_few_rows_go_by_dtype():
    ages = COLUMNS["ages"][0]
    assert kind_of(ages[:99]) == "id"
    assert kind_of(ages[:100]) == "both"
    assert kind_of(ages[:99].astype(float)) == "number"


def test_numbering_by_frequency_does_not_lose_the_ids():
    """Ids numbered by how frequent they are look like counts; they must not become numbers
    alone.
    """
    weights = 1 / np.arange(1, 10_001)
    for n in (1000, 5000, 20_000):
        ids = rng().choice(10_000, n, p=weights / weights.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DoubtfulKindWarning)
            assert kind_of(ids) in ("id", "both")


def test_counts_of_many_values_are_beyond_doubt_and_uneven_ids_are_not():
    """Both have more than a thousand uneven values; of counts the higher are the rarer."""
    counts = np.floor(np.exp(rng().normal(5, 1.5, 40_000))).astype(int)
    values = np.unique(np.floor(np.exp(np.linspace(3, 13, 1500))).astype(int)) // 10 * 10 + 3
    ids = rng().choice(values, 40_000)
    assert len(np.unique(counts)) > 1000 and len(np.unique(ids)) > 1000
    assert choose_kind(counts, "categorical") == ("both", False)
    assert choose_kind(ids, "categorical") == ("both", True)


def test_doubt_is_said_once_by_name():
    # uneven, not falling, hardly repeated.
    codes = np.floor(10_000 * rng().random(5000) ** 4).astype(int) * 7919
    hashed = rng().choice(rng().integers(0, 2**31, 2000), 5000)
    X = pd.DataFrame({"hashed": hashed, "age": COLUMNS["ages"][0][:1].repeat(5000), "codes": codes})
    with pytest.warns(
        DoubtfulKindWarning,
        match=r"\['hashed', 'codes'\] may be ids or numbers.*{'hashed': \"id\"}",
    ) as caught:
        encoder = FieldEncoder().fit(X)
    assert len(caught) == 1 and "'age'" not in str(caught[0].message)
    assert encoder.kinds_["hashed"] == encoder.kinds_["codes"] == "both"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FieldEncoder(categorical_features={"hashed": "id", "codes": "number"}).fit(X)


def test_the_first_chunk_decides():
    users, ages = COLUMNS["users"][0], COLUMNS["ages"][0]
    X = pd.DataFrame({"user": users, "age": ages})
    encoder = FieldEncoder().partial_fit(X[:1000])
    encoder.partial_fit(X[1000:1010]).partial_fit(X[1010:])
    whole = FieldEncoder().fit(X)
    assert encoder.kinds_ == whole.kinds_ == {"user": "id", "age": "both"}
    np.testing.assert_array_equal(encoder.transform(X), whole.transform(X))


def test_what_is_named_goes_before_what_it_looks_like():
    X = pd.DataFrame({name: np.resize(column, 2000) for name, (column, _) in COLUMNS.items()})
    given = {"ages": "id", "users": "number", "hours of the day": "number"}
    kinds = FieldEncoder(categorical_features=given).fit(X).kinds_
    assert {name: kinds[name] for name in given} == given
    assert kinds["two values"] == "id" and kinds["times"] == "number"
    alone = FieldEncoder(categorical_features=["ages"]).fit(X).kinds_
    assert alone.pop("ages") == "id" and set(alone.values()) == {"number"}


def test_a_column_of_both_kinds_has_two_fields():
    X = pd.DataFrame({"age": COLUMNS["ages"][0], "city": np.resize(["a", "b"], 2000)})
    encoder = FieldEncoder().fit(X)
    assert encoder.field_names_ == ["age", "city", "age (number)"]
    table = encoder.encode(X)
    assert table.ids.shape == (2000, 2) and table.numeric.shape == (2000, 2)
    order = X["age"].to_numpy().argsort()
    assert (np.diff(table.numeric[order, 0]) >= 0).all()
    ages = X["age"].to_numpy()
    assert (encoder.inverse_transform(table)[:, 0] == ages).all()
    row = encoder.encode(X[7:8])
    np.testing.assert_array_equal(row.ids, table.ids[7:8])
    np.testing.assert_array_equal(row.numeric, table.numeric[7:8])


@pytest.mark.skipif(
    "SKLEARN_AUTOREC_DATA" not in os.environ, reason="SKLEARN_AUTOREC_DATA is not set"
)
def test_on_public_tables():
    """Numbers of users, items, students and agents are ids; amounts, counts and ages are not ids
    alone.
    """
    home = Path(os.environ["SKLEARN_AUTOREC_DATA"])
    ids = {
        "insteval": ["student", "lecturer"],
        "hotel_bookings": ["company", "agent"],
        "kuairand_feedback": ["user"],
        "xmarket_ratings": ["user", "item"],
    }
    numbers = {
        "adult": ["age", "fnlwgt", "hours_per_week", "capital_gain", "capital_loss"],
        "bank": ["age", "campaign", "euribor3m", "duration"],
        "credit_default": ["limit_bal", "age", "bill_amt1", "pay_amt1"],
        "hotel_bookings": ["lead_time", "adr", "stays_in_week_nights"],
        "criteo_sample": [f"I{i}" for i in (*range(1, 10), 11, 13)],
    }
    for name in ids.keys() | numbers.keys():
        path = home / name / "train.parquet"
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        X = pd.read_parquet(path)
        X = X.iloc[
            np.sort(np.random.default_rng(0).choice(len(X), min(len(X), 8000), replace=False))
        ]
        columns = [*ids.get(name, []), *numbers.get(name, [])]
        kinds = FieldEncoder().fit(X[columns]).kinds_
        assert {kinds[c] for c in ids.get(name, [])} <= {"id"}, (name, kinds)
        assert {kinds[c] for c in numbers.get(name, [])} <= {"number", "both"}, (name, kinds)
