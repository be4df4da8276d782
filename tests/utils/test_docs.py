"""Docstrings that take entries from those of their bases."""

import inspect

import pytest
from sklearn.base import BaseEstimator

import sklearn_autorec
from sklearn_autorec.feature_selection import MARLFS, DualAgent
from sklearn_autorec.utils._docs import REQUEST, entries_of, inherits_entries, takes_entries


class Base(BaseEstimator):
    """Two parameters.

    Parameters
    ----------
    lr, l2 : float, default=0.1
        Learning rate, and decay.

        Both are positive.
    depth : int
    verbose : int, default=0
        Print a line.

    Notes
    -----
    This : is no entry of a parameter, but reads like one.

    Attributes
    ----------
    loss_ : float
    """


def test_entries_are_heads_with_what_is_indented_below():
    entries = entries_of(Base.__doc__)
    assert list(entries)[:3] == ["lr", "depth", "verbose"] and "loss_" in entries
    assert entries["lr"] == (
        "lr, l2 : float, default=0.1\n    Learning rate, and decay.\n\n    Both are positive."
    )
    assert entries["depth"] == "depth : int" and entries["loss_"] == "loss_ : float"


def test_one_several_and_a_range_are_filled_in_where_they_are_asked_for():
    @inherits_entries
    class Child(Base):
        """More.

        Parameters
        ----------
        {lr to verbose}
        {verbose, depth}
        own : {"a", "b"}
            Not asked for: {depth}

        Attributes
        ----------
        {feature_names_in_}
        """

    assert inspect.getdoc(Child) == (
        "More.\n\nParameters\n----------\n"
        "lr, l2 : float, default=0.1\n    Learning rate, and decay.\n\n    Both are positive.\n"
        "depth : int\nverbose : int, default=0\n    Print a line.\n"
        "verbose : int, default=0\n    Print a line.\ndepth : int\n"
        'own : {"a", "b"}\n    Not asked for: {depth}\n\n'
        "Attributes\n----------\n"
        "feature_names_in_ : ndarray of shape (``n_features_in_``,)\n"
        "    Their names, where they all are strings."
    )


def test_the_nearest_base_counts_and_a_missing_entry_is_an_error():
    class Nearer(Base):
        """Other words.

        Parameters
        ----------
        depth : int
            Of the tree.
        """

    @inherits_entries
    class Child(Nearer):
        """More.

        Parameters
        ----------
        {depth}
        {verbose}
        """

    assert "Of the tree." in Child.__doc__ and "Print a line." in Child.__doc__
    with pytest.raises(ValueError, match="Wrong asks for 'width', which nobody has"):

        @inherits_entries
        class Wrong(Base):
            """More.

            {width}
            """


def test_a_function_takes_entries_of_the_first_source_that_has_them():
    def other(depth):
        """Count.

        Parameters
        ----------
        depth : float
            In metres.
        """

    class Holder:
        @classmethod
        @takes_entries(other, Base)
        def measure(cls, depth, verbose):
            """Measure.

            Parameters
            ----------
            {depth, verbose}
            """

    assert inspect.getdoc(Holder.measure) == (
        "Measure.\n\nParameters\n----------\ndepth : float\n    In metres.\n"
        "verbose : int, default=0\n    Print a line."
    )
    with pytest.raises(ValueError, match="wrong asks for 'lr', which nobody has"):

        @takes_entries(other)
        def wrong(lr):
            """{lr}"""


def test_a_class_without_a_docstring_stays_without():
    class Silent(Base):
        pass

    Silent.__doc__ = None
    assert inherits_entries(Silent).__doc__ is None


@pytest.mark.parametrize(
    "cls", [sklearn_autorec.CTRClassifier, sklearn_autorec.RatingRegressor, MARLFS, DualAgent]
)
def test_nothing_is_left_to_be_filled_in(cls):
    text = inspect.getdoc(cls)
    assert not REQUEST.search(text)
    assert all(
        f"\n{name}" in text or f", {name}" in text for name in inspect.signature(cls).parameters
    )
