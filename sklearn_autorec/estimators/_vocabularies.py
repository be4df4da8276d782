"""What the parameters of an estimator say about the vocabularies of its encoder."""

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from ..engine._search_phase import check_methods
from ..nn import FieldLayout
from ..nn._growing import grow_tables, grown_rows
from ..preprocessing import FieldEncoder
from ..preprocessing._growing import remember_rare

__all__ = ["encoder_to_keep", "grow_moments", "grow_network", "grows", "wanted_encoder"]


def wanted_encoder(estimator):
    """The encoder that is to be cloned and fitted, with the vocabularies that the estimator wants
    shared.

    Raises
    ------
    ValueError
        If ``shared_vocabularies`` is given where the encoder has its own, is fitted already, or has
        no such parameter.
    """
    encoder, shared = estimator.encoder, estimator.shared_vocabularies
    encoder = FieldEncoder() if encoder is None else encoder
    _check_growth(estimator, encoder)
    if shared is None:
        return encoder
    if isinstance(encoder, FrozenEstimator):
        raise ValueError(
            f"shared_vocabularies={shared!r} cannot be given with a frozen encoder, whose "
            f"vocabularies are there already; fit that one with "
            f"FieldEncoder(shared_vocabularies={shared!r})."
        )
    params = encoder.get_params(deep=False) if hasattr(encoder, "get_params") else {}
    if params.get("shared_vocabularies", shared) not in (None, shared):
        raise ValueError(
            f"shared_vocabularies={shared!r}, but the encoder has "
            f"shared_vocabularies={params['shared_vocabularies']!r}; give it in one of the two."
        )
    if "shared_vocabularies" not in params:
        raise ValueError(
            f"shared_vocabularies={shared!r} needs an encoder with such a parameter, as "
            f"FieldEncoder has it, got encoder={encoder!r:.200}."
        )
    return clone(encoder).set_params(shared_vocabularies=shared)


def _check_growth(estimator, encoder):
    """Refuse growth without a bound, or of what cannot grow.

    Raises
    ------
    ValueError
    """
    if estimator.new_categories != "grow":
        return
    if isinstance(encoder, FrozenEstimator) or not isinstance(encoder, FieldEncoder):
        raise ValueError(
            f"new_categories='grow' needs a FieldEncoder that is not frozen, got "
            f"encoder={encoder!r:.200}."
        )
    if encoder.max_categories is None:
        raise ValueError(
            "new_categories='grow' needs a bound of the values of a column, without which a stream "
            "would fill the memory, got max_categories=None; set for instance "
            "encoder=FieldEncoder(max_categories=100_000)."
        )


def grows(estimator, fitted):
    """Whether new values of a chunk get ids of their own.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Its parameters.
    fitted : estimator or None
        Whose network goes on.

    Raises
    ------
    ValueError
        If they would, and cannot: `_check_growth`, and for a search that goes on with the stream.
    """
    if estimator.new_categories != "grow":
        return False
    methods = check_methods(estimator.search, estimator.joint) if fitted is None else []
    if fitted is not None and "_live_search" in fitted.__dict__:
        methods = fitted._live_search.methods
    if methods:
        raise ValueError(
            f"new_categories='grow' cannot go with search={methods!r:.200}, which goes on with the "
            f"stream and keeps a record of each value that was there at its start; set "
            f"new_categories='unknown' or search=None."
        )
    if fitted is not None:
        _check_growth(estimator, fitted.encoder_)
    return fitted is not None


def encoder_to_keep(estimator, encoder):
    """A fitted encoder without what only further counting needs, but for rare values that may grow
    frequent.
    """
    if isinstance(encoder, FrozenEstimator):
        return encoder
    if estimator.new_categories == "grow":
        remember_rare(encoder)
    return encoder.discard_counts()


def grow_network(module, old, new):
    """Give a network, in place, rows for the values that its encoder has got; see `grow_tables`.

    Parameters
    ----------
    module : nn.Module
    old, new : FieldEncoder
    """
    old, new = map(FieldLayout.of_encoder, (old, new))
    if (old.n_ids, old.sequences) == (new.n_ids, new.sequences):
        return {}
    return grow_tables(module, old, new)


def grow_moments(net, places):
    """Give the moments of a net, which are those of its smaller tables, rows of zeros.

    Parameters
    ----------
    net : FieldNet
        Initialised.
    places : dict of Parameter to int64 Tensor
        As `grow_tables` gives it.
    """
    for optimizer in net.weight_optimizers():
        for parameter, state in optimizer.state.items():
            if parameter in places:
                for name, value in state.items():
                    if getattr(value, "ndim", 0):  # but the number of steps
                        state[name] = grown_rows(value, places[parameter])
