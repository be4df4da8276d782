"""The two kinds of object a user hands to an estimator: a network, and a search method."""

from ._descriptions import describe
from ._descriptions import without_fit_only as without_fit_only
from ._fixed import FixedArchitecture, fixed_methods
from ._fixed import has_slots as has_slots
from ._fixed import holds_members as holds_members
from ._method import SearchMethod
from ._method import known_methods as known_methods
from ._network import (
    Network,
    network_of,
    networks_with_slot,
    register_network,
    resolve_network,
)
from ._network import is_described as is_described
from ._network import known_network_classes as known_network_classes
from ._network import known_networks as known_networks
from ._slots import DESCRIBED as DESCRIBED
from ._slots import RETRAIN as RETRAIN
from ._slots import SLOTS as SLOTS

__all__ = [
    "FixedArchitecture",
    "Network",
    "SearchMethod",
    "describe",
    "fixed_methods",
    "network_of",
    "networks_with_slot",
    "register_network",
    "resolve_network",
]
