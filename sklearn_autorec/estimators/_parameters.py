"""The parameters of the two estimators, and what both leave behind."""

import os
from numbers import Integral, Real

import torch

from ..base import resolve_network
from ..nn import NUMERIC_EMBEDDINGS
from ..nn._storage import STORAGES
from ..preprocessing import FieldEncoder
from ..utils._defaults import ComponentEstimator
from ..utils._parameters import stores_parameters
from ..utils._sklearn import HasMethods, Interval, StrOptions


def _no_search(search, parameter):
    raise ValueError(
        f"search={search!r:.100} has no parameter {parameter!r}: set search to one method, such as "
        f"search=AutoFIS(), and its parameters can be set as search__{parameter}."
    )


# What stands for components that are given by name, or left out, when a parameter of them is set.
MAKERS = {
    "network": lambda network, parameter: resolve_network(network),
    "encoder": lambda encoder, parameter: FieldEncoder(),
    "search": _no_search,
}


class FieldParameters(ComponentEstimator):
    """Base of `FieldEstimator`: what may be set, and what it means.

    Parameters
    ----------
    network : "auto", str or Network, default="auto"
        "auto" is a DeepFM of moderate size with the parts of ``wide`` and ``target_statistics``
        beside it, and the values of ``embedding_dim`` to ``averaging`` that go with it: what
        predicts best over many tables. Otherwise the network family, by name or as an object with
        its own parameters, such as ``DeepFM(hidden_units=(64, 32))``, which then predicts alone
        unless a part beside it is asked for. Names are listed by `sklearn_autorec.networks`.
    search : SearchMethod, list of them, or None, default=None
        What to choose automatically before the final training, such as ``AutoFIS()``. Methods of a
        list search one after the other, each around the architecture already found.
    joint : bool, default=False
        Search the methods of a list together, in one run. All must search by gradients.
    encoder : FieldEncoder, FrozenEstimator of one, or None, default=None
        Turns the raw table into ids and numbers; None is ``FieldEncoder()``. It is cloned and
        fitted in ``fit``; a frozen one (``sklearn.frozen.FrozenEstimator``) is used as it is.
    shared_vocabularies : dict or None, default=None
        ``{column: other column}``: columns of ids, or of lists of ids, that hold values of one
        kind, such as ``{"clicked_items": "item", "last_item": "item"}``. They have one vocabulary
        and one embedding table, in all networks and searches, which counts once wherever bytes are
        counted. The same parameter of `FieldEncoder` says more.
    new_categories : {"unknown", "grow"}, default="unknown"
        What ``partial_fit`` makes of values that earlier chunks (or ``fit``) have not seen.
        "unknown": they share the id of unknown values. "grow": a value gets an id of its own in the
        chunk in which it has come in ``min_frequency`` cells in all, as long as its column has
        fewer than ``max_categories`` values; both are parameters of the encoder, of which the
        latter must be given, since it bounds the memory. Its embedding starts as the mean of those
        of the column's values, and so does its first-order weight. Columns that are full go on as
        with "unknown", and so do hashed columns.
    initial_embeddings : dict of column to DataFrame, or None, default=None
        Vectors with which the tables of some columns start, such as those of a language model, or
        ``get_embeddings`` of another fit: a row a value, whose index has the values as the column
        has them (and "<missing>" and "<unknown>", where these have vectors), and ``embedding_dim``
        columns of numbers. Values that the frame lacks start as all do, with a warning where these
        are more than half. Of what it has beyond those of the training rows the values of frozen
        columns are kept, and serve rows that have them; for other columns they are dropped, since
        the training would move all vectors but theirs. For networks with the slot "embedding" that
        no search fills. Model files leave the frames out.
    frozen_embeddings : array-like of columns, or None, default=None
        Columns of ``initial_embeddings`` whose given vectors stay as they are, to the bit, in this
        and every later training, also of pickles and model files. Missing, unknown and other
        values that the frame lacks are trained.
    embedding_dim : int or None, default=None
        Length of an embedding vector. None: 8 with ``network="auto"``, 16 with another.
    lr : float or None, default=None
        Learning rate of Adam. None: with ``network="auto"`` 0.004, 0.005 with fewer than
        100,000 rows; 0.001 with another.
    embedding_l2 : float or None, default=None
        L2 decay of embeddings and first-order weights: its gradient, embedding_l2 times the value,
        is added before Adam's scaling. Raise it against over-fitting of rare values. Tables much
        larger than a batch decay only in the rows that a batch touches. None: with
        ``network="auto"`` 0.3, in batches of more than 512 rows 0.3 x 512 / batch; 0 with another.
    weight_decay : float or None, default=None
        The same for all other weights. None: 0.00001 with ``network="auto"``, 0 with another.
    embedding_init : float or None, default=None
        Standard deviation of initial embeddings. None: 0.01.
    numeric_embedding : {"piecewise", "periodic", "linear"}, default="piecewise"
        How a number becomes a vector: by a function that is linear between as many knots as the
        encoder has ``n_bins``, through sines and cosines of so many trained frequencies, or as a
        multiple of one vector.
    loss : callable (predicted, target) -> Tensor of shape (n_rows,), or None, default=None
        A loss of your own, of torch tensors. ``predicted`` are logits of shape (n_rows,) of the
        second of two classes, logits (n_rows, n_classes) of more, or ratings (n_rows,) in the units
        of y; ``target`` are float 0 and 1, int64 positions in ``classes_``, or ratings, each of
        shape (n_rows,). It must give a loss for each row, not their mean, so that weights of rows
        act; sums over a batch and parameters of its own it cannot have. It trains, judges held-out
        rows, and is the loss of histories; searches go by it as well. The parts of ``wide`` and
        ``target_statistics`` and the weights of the mean keep theirs, which None stands for: the
        log loss, or the squared error in units of the variance of y. Against a loss whose numbers
        are large, ``embedding_l2`` counts less. A function without a name in a module, such as a
        lambda, fits and clones, but pickle refuses the estimator as it does such a function.
        Model files hold no code: they leave the loss out, and loaded models predict the same.
    batch_size : int or "auto", default="auto"
        Rows of a training step; "auto" is between 32 and 4096, for about 32 steps an epoch with
        ``network="auto"``, 64 with another.
    max_epochs : int or None, default=None
        Passes over the training rows at most. None: 20, with ``network="auto"`` and fewer than
        100,000 rows 10.
    search_epochs : int or None, default=None
        Epochs of each search. None: two fifths of ``max_epochs`` with ``network="auto"``, else
        ``max_epochs``, which counts as 20 if it is None.
    max_time : float or None, default=None
        Seconds that ``fit`` may take, the encoding of the table included; None is no limit. The
        searches together have half of what is left when they begin, or all of it if no training
        follows, each an equal part; the trainings, one for each part that judges in turn and the
        last, have equal parts of what is left then, less a fifth of it where there are parts beside
        the network. What one does not need is for those after it. A training or a search ends with
        the batch in which its time is over: the epoch counts as far as it went, the best weights so
        far are kept, and a search has found what it has found. It sees one batch at least, and
        candidates that searches evaluate and parts beside the network are finished once they have
        begun, so that ``fit`` may take a little longer; parts beside the network that could not
        begin are left out. ``stopped_`` says so, with a ``ConvergenceWarning``. Chunks of
        ``partial_fit`` have no limit.
    early_stopping : bool or "auto", default="auto"
        Stop when held-out rows no longer improve and keep the best epoch. "auto" does so when
        ``fit`` is given ``X_val``, with a network of your own from 10,000 rows, and with
        ``network="auto"`` from 200: up to 5,000 rows four networks are trained, each without a
        quarter of the rows, and the final one sees all rows for as many epochs as were best.
    validation : {"auto", "random", "last", "time"}, default="auto"
        Which rows are held out. "last" are those at the end of the table, for logs in the order of
        time; "time" are the newest by ``time_column``, whatever their order, and searches hold out
        the newest of theirs as well. In the end the network is trained on them too. "auto" takes
        the last with ``network="auto"`` if they are clearly harder to predict from the others than
        rows drawn at random are, and the table is not sorted by a column or by the target.
    time_column : str, int, tuple or None, default=None
        Column of ``X`` by whose values rows are old or new with ``validation="time"``, as name or
        position: times, durations, numbers, or text in ISO 8601; no cell may be missing. Rows of
        one time are on one side, so that the share held out is as near to the one wanted as that
        allows. It is read by the network as any other column is.
    validation_fraction : float in (0, 1), default=0.1
        Share of the training rows held out for early stopping, when ``fit`` is given no ``X_val``.
    patience : int or None, default=None
        Epochs without improvement before stopping. None: 4 with ``network="auto"``, 2 with another.
    lr_schedule : {"constant", "plateau", "cosine"} or None, default=None
        "plateau" divides the rate by 10 after an epoch without improvement; "cosine" takes it to
        zero over ``max_epochs``. None: "cosine" with ``network="auto"``, "constant" with another.
    averaging : float in [0, 1) or None, default=None
        Decay per step of an exponential average of the weights, which is what is kept; 0 keeps the
        weights themselves. At step k the decay is at most k / (k + 10), so that short trainings
        average over their last tenth or so. None: 0.99 with ``network="auto"``, 0 with another.
    id_dropout : float in [0, 1), default=0.005
        Share of ids that each training step replaces by the field's unknown id, so that values
        never seen in training meet a trained embedding.
    members : int, default=1
        Independent networks, trained side by side in one: each has tables, weights and dropout of
        its own and meets the rows in its own order. Early stopping watches the mean of their
        logits, which is what predicts. Four need the memory of four models and 0.65 of their time
        or so; searches run with one. ``return_std=True`` in prediction says how far they lie apart.
    wide : {"auto", "autocross"} or None, default="auto"
        A crossed linear model beside the network (see `CrossedLinearClassifier`): its output and
        that of the network are averaged with weights from held-out rows. "auto": with
        ``network="auto"``, two classes or ratings, and no search that drops columns.
    target_statistics : "auto" or bool, default="auto"
        Boosted trees over target statistics of columns and their crosses (see `TargetStatistics`)
        and over numbers, averaged in the same way; a part that held-out rows give less than 2 % is
        left out. "auto" as in ``wide``.
    storage : {"float16", "int8", "pq"}, dict of str to one of these, or None, default=None
        How embedding tables are stored after the final training: "int8" with a scale for each
        vector takes about a quarter of the bytes of float32, "float16" half of them; "pq" stores
        parts of four numbers as codes of at most 64 centroids a column, a byte each, and goes with
        no search that has a budget or prunes single numbers; None keeps float32. A dict says it by
        column; columns that it leaves out keep float32. Vectors are brought to float32 as they are
        read. First-order weights, projections and the rest of the network stay as they are.
        ``budget`` of a search counts bytes of this storage, scales included. Training goes on from
        the tables as they were trained where moments are kept (with ``warm_start=True`` or after
        ``partial_fit``), else from what the stored ones read as.
    quantization_aware : bool, default=False
        Let the final training see every vector as it will be stored; gradients pass as if it were
        not. Of use where a few numbers of a vector dwarf the others; searches do not see it. Not
        with "pq".
    warm_start : bool, default=False
        ``fit`` goes on from the fitted network, with its encoder, architecture and the optimiser's
        moments, until ``max_epochs`` in all. What ``set_params`` changes meanwhile takes effect for
        the parameters that ``partial_fit`` names, and for those of early stopping, schedules and
        averaging.
    checkpoint : str, path-like or None, default=None
        Folder in which the trainings of ``fit`` keep what they need to go on, after each epoch.
        When the process has died, the same fit goes on behind the last finished epoch, with the
        result that it would have had. What finished searches have found is kept as well; a search
        that was not finished, and the parts of ``wide`` and ``target_statistics``, begin anew. It
        needs an int as ``random_state``, no ``max_time``, and rows in memory.
    distributed : bool, default=False
        Train in several processes, of one machine or more: the one that calls ``fit`` and its peers
        in ``torch.distributed``, such as those that torchrun has started, each with the whole table
        and the same parameters. Each takes its share of every batch; see the user guide on scaling.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState or None, default=None
        Of initial weights, order, dropout and splits. An int gives the same bits on the same
        machine; global generators are never used.
    verbose : int, default=0
        Print a line an epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the torch module.
    encoder_ : FieldEncoder
        The fitted encoder.
    part_weights_ : dict of str to float
        Weights of the "network", the "wide" part and "target_statistics" in the mean that predicts.
    architecture_ : dict
        What each search found, by slot: plain values and arrays from which the network is rebuilt.
    search_history_, history_ : list of dict
        One record per epoch of search and of training: losses, learning rate, figures of the
        method.
    n_iter_ : int
        Epochs that the kept weights have seen.
    stopped_ : {"finished", "max_time", "interrupted"}
        What ended ``fit``; not there after ``partial_fit`` and in models from files.
    n_parameters_ : int
        Trained numbers in the network, and scales of those that are stored as int8.
    nbytes_ : dict of str to int
        Bytes of the network: "embedding", "projection" (of embeddings of several widths), "index"
        (of packed tables), "network" (all else) and "total".
    compression_ratio_ : float
        Bytes of full embedding tables over those of the network's (projections and indices
        included).
    sparsity_ : float
        Share of the numbers of full embedding tables that is not stored, whatever says where the
        others belong; where a search chose sizes.
    dataset_ : dict of str to int
        Of a fit from a data set of more rows than a buffer: "n_rows" of weight above zero,
        "n_training_rows" of the network, "n_held_out", "n_sampled" (training rows on which the
        parts beside the network were fitted, and searches that take rows by number), "n_blocks".
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, where they all are strings.
    """

    _makers = MAKERS
    _parameter_constraints: dict = {
        "network": [str, HasMethods("build")],
        "search": [None, list, tuple, HasMethods(["build", "realise", "search"])],
        "joint": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "shared_vocabularies": [dict, None],
        "new_categories": [StrOptions({"unknown", "grow"})],
        "initial_embeddings": [dict, None],
        "frozen_embeddings": ["array-like", None],
        "embedding_dim": [None, Interval(Integral, 1, None, closed="left")],
        "numeric_embedding": [StrOptions({*NUMERIC_EMBEDDINGS})],
        "lr": [None, Interval(Real, 0, None, closed="neither")],
        "embedding_l2": [None, Interval(Real, 0, None, closed="left")],
        "weight_decay": [None, Interval(Real, 0, None, closed="left")],
        "embedding_init": [None, Interval(Real, 0, None, closed="neither")],
        "loss": [None, callable],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "search_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation": [StrOptions({"auto", "random", "last", "time"})],
        "time_column": [None, str, Integral, tuple],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [None, Interval(Integral, 1, None, closed="left")],
        "monitor": [StrOptions({"loss", "auc"}), callable],
        "lr_schedule": [None, StrOptions({"constant", "plateau", "cosine"})],
        "averaging": [None, Interval(Real, 0, 1, closed="left")],
        "id_dropout": [Interval(Real, 0, 1, closed="left")],
        "members": [Interval(Integral, 1, None, closed="left")],
        "wide": [StrOptions({"auto", "autocross"}), None],
        "target_statistics": [StrOptions({"auto"}), "boolean"],
        "storage": [StrOptions({*STORAGES}), dict, None],
        "quantization_aware": ["boolean"],
        "warm_start": ["boolean"],
        "checkpoint": [str, os.PathLike, None],
        "distributed": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
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
        numeric_embedding="piecewise",
        loss=None,
        lr=None,
        embedding_l2=None,
        weight_decay=None,
        embedding_init=None,
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
