"""Everything between the encoded table and the network that serves: encoded batches, the training
net, gradient search, optimisers.
"""

from ._batches import EncodedTensors, TrainingBatches, batches_of
from ._evaluation import Evaluations, HeldOutScore
from ._net import FieldNet
from ._optimizers import GRDA, RowAdam
from ._problem import SearchProblem, training_net
from ._schedule import ArchSchedule
from ._training import TrainingPlan, forward_in_chunks, train

__all__ = [
    "GRDA",
    "ArchSchedule",
    "EncodedTensors",
    "Evaluations",
    "FieldNet",
    "HeldOutScore",
    "RowAdam",
    "SearchProblem",
    "TrainingBatches",
    "TrainingPlan",
    "batches_of",
    "forward_in_chunks",
    "train",
    "training_net",
]
