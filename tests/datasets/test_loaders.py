import shutil

import pandas as pd
import pytest

from sklearn_autorec import datasets


@pytest.mark.parametrize(
    "fetch, rows, columns",
    [
        (datasets.fetch_frappe, 28_860, 10),
        (datasets.fetch_adult, 16_281, 14),
        (datasets.fetch_criteo_sample, 1000, 39),
        (datasets.fetch_avazu_sample, 900, 22),
    ],
)
def test_file_loaders(data_home, fetch, rows, columns):
    bunch = fetch(subset="test", data_home=data_home)
    assert bunch.data.shape == (rows, columns) and set(bunch.target) == {0, 1}
    assert "label" not in bunch.data and set(bunch.categorical_features) <= set(bunch.data.columns)
    X, y = fetch(subset="test", data_home=data_home, return_X_y=True)
    pd.testing.assert_frame_equal(X, bunch.data)
    assert (
        "Research" in fetch.__doc__
        or "terms" in fetch.__doc__
        or "rules" in fetch.__doc__
        or fetch is datasets.fetch_adult
    )


def test_all_subsets_together(data_home):
    assert (
        len(datasets.fetch_adult(subset="all", data_home=data_home).data) == 29_305 + 3_256 + 16_281
    )


def test_movielens_targets_splits_and_no_leaks(data_home):
    bunch = datasets.fetch_movielens_100k(subset="test", target="rating", data_home=data_home)
    assert len(bunch.data) == 10_000 and set(bunch.target) <= {1, 2, 3, 4, 5}
    assert not {"rating", "label"} & set(bunch.data.columns) and not [
        c for c in bunch.data if c.startswith("split")
    ]
    sizes = [
        len(datasets.fetch_movielens_1m(subset=s, split="user_time", data_home=data_home).data)
        for s in ("train", "valid", "test")
    ]
    assert sum(sizes) == 1_000_209
    million = datasets.fetch_movielens_1m(subset="test", data_home=data_home)
    assert not {"n_in_user", "last_timestamp"} & set(million.data.columns) and set(
        million.target
    ) == {0, 1}
    assert len(datasets.fetch_amazon_beauty(data_home=data_home).frame) == 353_962


def test_the_environment_names_the_folder(data_home, monkeypatch):
    monkeypatch.setenv("SKLEARN_AUTOREC_DATA", str(data_home))
    assert len(datasets.fetch_frappe(subset="test").data) == 28_860


def test_another_version_is_refused_by_its_checksum(data_home, tmp_path):
    folder = tmp_path / "adult"
    folder.mkdir()
    shutil.copy(data_home / "adult" / "valid.parquet", folder / "test.parquet")
    with pytest.raises(OSError, match="test.parquet has sha256 .* expected .*checksum=False"):
        datasets.fetch_adult(subset="test", data_home=tmp_path)
    assert (
        len(datasets.fetch_adult(subset="test", data_home=tmp_path, checksum=False).data) == 3_256
    )


def test_absent_data_says_where_to_get_it(tmp_path):
    with pytest.raises(
        OSError, match=r"frappe_x1.train.parquet is not there.*arxiv.org.*SKLEARN_AUTOREC_DATA"
    ):
        datasets.fetch_frappe(data_home=tmp_path)
    for fetch in (
        datasets.fetch_movielens_1m,
        datasets.fetch_movielens_100k,
        datasets.fetch_amazon_beauty,
        datasets.fetch_criteo_sample,
    ):
        with pytest.raises(OSError, match="is not there"):
            fetch(data_home=tmp_path)


def test_bad_parameters_are_named(tmp_path):
    with pytest.raises(ValueError, match="subset must be one of .* got 'dev'"):
        datasets.fetch_frappe(subset="dev", data_home=tmp_path)
    with pytest.raises(ValueError, match="target must be 'label' or 'rating', got 'stars'"):
        datasets.fetch_movielens_1m(target="stars", data_home=tmp_path)
    with pytest.raises(ValueError, match="split must be 'random' or 'user_time', got 'time'"):
        datasets.fetch_movielens_1m(split="time", data_home=tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_splits_of_a_folder(tmp_path, kind):
    frame = pd.DataFrame({"user": ["a", "b"], "click": [0, 1]})
    for split in ("train", "test"):
        path = tmp_path / f"{split}.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    splits = datasets.load_splits(tmp_path, target="click")
    assert set(splits) == {"train", "test"} and splits["test"][1].tolist() == [0, 1]
    assert splits["train"][0].columns.tolist() == ["user"]
    with pytest.raises(
        ValueError, match=r"has no column 'label'; its columns are \['user', 'click'\]"
    ):
        datasets.load_splits(tmp_path)
    (tmp_path / f"test.{kind}").unlink()
    with pytest.raises(OSError, match="neither test.parquet nor test.csv"):
        datasets.load_splits(tmp_path, target="click")


def test_everything_exported_exists():
    assert all(hasattr(datasets, name) for name in datasets.__all__)
