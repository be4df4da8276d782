"""The estimator of clicks, or of any classes."""

from numbers import Real
from typing import Literal, Self, overload

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions, with_callbacks
from ..utils._state import reads_once
from ..utils._typing import Array, ArrayLike, Column, Floats, Table
from ._base import FieldEstimator
from ._targets import ClassTarget

__all__ = ["CTRClassifier"]


@inherits_entries
class CTRClassifier(ClassifierMixin, FieldEstimator):
    """Deep click (or class) prediction on tables of categorical, numeric and list-valued columns.

    ``fit`` encodes the raw table, searches what ``search`` asks for, derives the architecture,
    trains the concrete network, and keeps nothing else.

    Parameters
    ----------
    {network to patience}
    monitor : {"loss", "auc"} or callable, default="loss"
        What early stopping watches on the held-out rows: their loss, the area under the ROC curve,
        or a scikit-learn scorer, called with (estimator, None, y) and, if rows have weights,
        ``sample_weight``; ``estimator`` predicts these rows by the network alone. More is better:
        ``make_scorer(brier_score_loss, greater_is_better=False, response_method="predict_proba")``
        turns the direction. Histories have it as "valid_score".
    {lr_schedule to target_statistics}
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with ``sample_weight``.
    negative_sampling_rate : float in (0, 1] or None, default=None
        Share w of the negatives (rows of the first of two classes) that were kept when the training
        rows were drawn, all positives being there. A probability p learned from such rows is
        corrected to p / (p + (1 - p) / w), which is log(w) on a logit [1]_, in all that predicts,
        in model files and in ONNX. Histories and early stopping judge rows as they were sampled, so
        that rows of ``X_val`` should be sampled likewise. None is 1, all rows.
    {storage to verbose}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    negative_sampling_rate_ : float
        The rate by which predictions are corrected.
    {net_ to feature_names_in_}

    See Also
    --------
    RatingRegressor : The same for ratings.

    References
    ----------
    .. [1] X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014,
       section 6.3.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.interaction import AutoFIS
    >>> X, y, truth = make_ctr(2000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=AutoFIS(), max_epochs=2, random_state=0).fit(
    ...     X, y
    ... )
    >>> model.predict_proba(X).shape
    (2000, 2)
    """

    _target_kind = ClassTarget
    _parameter_constraints = {
        **FieldEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "negative_sampling_rate": [None, Interval(Real, 0, 1, closed="right")],
    }

    @stores_parameters
    def __init__(
        self,
        *,
        network="auto",
        search=None,
        joint=False,
        encoder=None,
        shared_vocabularies=None,
        new_categories="unknown",
        initial_embeddings=None,
        frozen_embeddings=None,
        embedding_dim=None,
        lr=None,
        embedding_l2=None,
        weight_decay=None,
        embedding_init=None,
        numeric_embedding="piecewise",
        loss=None,
        batch_size="auto",
        max_epochs=None,
        search_epochs=None,
        max_time=None,
        early_stopping="auto",
        validation="auto",
        time_column=None,
        validation_fraction=0.1,
        patience=None,
        monitor="loss",
        lr_schedule=None,
        averaging=None,
        id_dropout=0.005,
        members=1,
        wide="auto",
        target_statistics="auto",
        class_weight=None,
        negative_sampling_rate=None,
        storage=None,
        quantization_aware=False,
        warm_start=False,
        checkpoint=None,
        distributed=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        """Store the parameters."""

    @with_callbacks
    def fit(
        self,
        X: Table,
        y: ArrayLike,
        sample_weight: Column = None,
        X_val: Table | None = None,
        y_val: Column = None,
        sample_weight_val: Column = None,
        groups: Column = None,
    ) -> Self:
        """Search and train.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table or array of shape (n_rows, n_columns)
            Raw columns; see `FieldEncoder` for what becomes of them. Or a table that may be larger
            than memory: a `ParquetDataset`, ``pyarrow.dataset.Dataset``, polars LazyFrame or dask
            DataFrame. It is read in blocks, see the Notes; the last two are collected instead where
            y is no name.
        y : array-like of shape (n_rows,), or str
            Labels; of a data set the name of their column.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, in the loss and in the counts of the encoder. Zero is the same as
            leaving the row out, of labels and vocabularies too; whole weights are repetitions to
            the encoder, to scales and to ``class_weight="balanced"``, and up to rounding to the
            training where it has one batch without batch statistics and dropout. The unit matters
            to ``min_frequency`` of the encoder; the parts beside the network take weights for
            numbers of rows, unless these are less than 1 on the mean, where no unit matters. Of a
            data set the name of their column.
        X_val, y_val : like X and y, default=None
            Rows for early stopping, instead of a split of X.
        sample_weight_val : array-like of shape (n_validation_rows,), default=None
            Weights of the rows of X_val.
        groups : array-like of shape (n_rows,), default=None
            A label for each row, such as its user, its session or its day: anything with a hash.
            Rows of one group are held out together, of early stopping, of the weights of the parts
            beside the network and of searches, so that these are judged by groups that they have
            not seen. ``validation="last"`` takes the last rows all the same; with "auto" groups are
            drawn at random. Searches that learn by group read it as ``problem.groups``. What the
            parts beside the network hold out by themselves goes row by row. Of a data set the name
            of their column, which is one of the table only where ``ParquetDataset(columns=...)``
            names it.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad parameters or data, naming the parameter or column.
        TypeError
            For ``groups`` that are no labels, a name as y without a data set, and the opposite.
        NonFiniteLossError
            If training diverges before one epoch is finished.
        OSError
            If a block of a data set cannot be read, with its file and row group.
        KeyboardInterrupt
            If it is stopped before one epoch is finished. Later on, the model keeps the best epoch
            so far and a `UserWarning` says so; in the first epoch behind a search it keeps the
            weights of the search.

        Notes
        -----
        Whatever is raised, the estimator is as it was before: fitted as then, or not fitted.

        With metadata routing, ``set_fit_request(groups=True)`` has ``GridSearchCV`` and pipelines
        hand the groups on: those of the splitter (``GroupKFold``) are then those of ``fit``.

        A data set of at most ``buffer_rows`` rows (see `ParquetDataset`) is read into memory, and
        the fit is that of the table, to the bit. Of a larger one the first pass counts vocabularies
        and labels over all rows, as ``FieldEncoder.partial_fit`` does, and draws a sample; then
        each epoch reads all blocks in a new order and shuffles rows within a buffer. Rows are held
        out for early stopping by a hash of their number, as ``validation_fraction`` says but no
        more than ``sample_rows``, or with ``validation="last"`` the last ones, once for all; there
        are no parts in turn and no training on all rows in the end, and "time" is refused. With
        ``groups`` whole groups are held out, by a hash of their labels, as many as have about that
        share of the rows: which these are does not depend on the order of the rows. The
        parts beside the network are fitted on the sample. Searches train on all rows, with rows of
        their own from the same blocks; what takes rows by number in a search has the sample.
        ``dataset_`` says how many rows that were. What is not in Parquet files is written into some
        first, in a temporary folder.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)

    def partial_fit(
        self,
        X: Table,
        y: ArrayLike,
        classes: Column = None,
        sample_weight: Column = None,
    ) -> Self:
        """Train one epoch on a chunk of rows.

        The first chunk fixes the vocabulary, unless ``encoder`` is frozen or ``fit`` came before;
        later values that it does not hold count as unknown. The optimiser's state lives on between
        calls, in copies and in pickles (not in model files).

        What ``set_params`` changes between two calls takes effect in the next for ``lr``,
        ``embedding_l2``, ``weight_decay``, ``batch_size``, ``id_dropout``, ``class_weight``,
        ``random_state`` and, with a network object that has it, ``network__dropout``. The network
        itself, the encoder and ``embedding_dim`` stay.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``. Chunks weigh against each other: the learning rate of a chunk is ``lr``
            times its mean weight over that of all rows seen (its own included), at most 3. A chunk
            of weight zero is skipped.
        classes : array-like of shape (n_classes,), default=None
            All labels; required in the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit``; for other ``classes`` than before; and for ``class_weight="balanced"``,
            which chunks cannot know.
        NonFiniteLossError
            If training diverges.
        KeyboardInterrupt
            If it is stopped.

        Notes
        -----
        Whatever is raised, the model is the one before this chunk.

        There are no groups here: nothing is held out of a chunk for early stopping, and what a
        search that goes on from chunk to chunk holds out, it draws row by row.
        """
        if not hasattr(self, "encoder_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes)

    def _logits(self, X):
        return self._of_all_negatives(super()._logits(X))

    def _member_logits(self, X):
        return self._of_all_negatives(super()._member_logits(X))

    def _of_all_negatives(self, logits):
        """Logits as they would be if no negatives had been left out of the training."""
        rate = self.__dict__.get("negative_sampling_rate_", 1.0)
        return logits if rate == 1.0 or len(self.classes_) < 2 else logits + np.log(rate)

    @reads_once
    def decision_function(self, X: Table) -> Floats:
        """Logits; (n_rows,) for two classes, else (n_rows, n_classes)."""
        logits = self._logits(X)
        return logits[:, 0] if len(self.classes_) <= 2 else logits

    @overload
    def predict_proba(self, X: Table, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict_proba(self, X: Table, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    @reads_once
    def predict_proba(self, X: Table, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Class probabilities, float64 of shape (n_rows, n_classes), columns as in ``classes_``.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns), or a data set with its columns
        return_std : bool, default=False
            Also say how far the members lie apart; for models of ``members`` > 1.

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes)
        std : ndarray of shape (n_rows, n_classes)
            Standard deviation of the members' probabilities (with the number of members as
            divisor), if ``return_std``. It measures what the members could not learn from the rows,
            not the chance in a single outcome.

        Raises
        ------
        ValueError
            If ``return_std`` is asked of a model of one member.
        """
        if not return_std:
            return self._probabilities(self._logits(X))
        return self._probabilities(self._logits(X)), self._probabilities(
            self._member_logits(X)
        ).std(0)

    def _probabilities(self, logits: Array) -> Array:
        """(..., n_classes) of logits (..., C)."""
        if len(self.classes_) == 1:
            return np.ones_like(logits)
        if len(self.classes_) == 2:
            positive = expit(logits[..., 0])
            return np.stack([1 - positive, positive], -1)
        return softmax(logits, axis=-1)

    @reads_once
    def predict(self, X: Table) -> Array:
        """The most probable label of each row, (n_rows,)."""
        logits = self._logits(X)
        return self.classes_[
            logits.argmax(1) if len(self.classes_) > 2 else (logits[:, 0] > 0).astype(int)
        ]

    def score(self, X: Table, y: ArrayLike, sample_weight: Column = None) -> float:
        """Share of rows whose label is predicted right; labels may be of the types that ``fit``
        takes.
        """
        return super().score(X, ClassTarget.check(y, self), sample_weight)
