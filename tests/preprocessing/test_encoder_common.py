"""scikit-learn's common checks."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_autorec.preprocessing import FieldEncoder


@parametrize_with_checks(
    [FieldEncoder(), FieldEncoder(categorical_features=None, numeric="standard")]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
