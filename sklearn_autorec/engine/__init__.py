"""Everything between the encoded table and the network that serves: encoded batches, the training
net, gradient search, optimisers.
"""

from ._arch_steps import ArchSchedule
from ._batches import EncodedTensors, TrainingBatches, batches_of
from ._net import FieldNet
from ._optimizers import GRDA, RowAdam
from ._problem import SearchProblem, training_net
from ._training import TrainingPlan, TrainingResult, forward_in_chunks, train

__all__ = [
    "GRDA",
    "ArchSchedule",
    "EncodedTensors",
    "FieldNet",
    "RowAdam",
    "SearchProblem",
    "TrainingBatches",
    "TrainingPlan",
    "TrainingResult",
    "batches_of",
    "forward_in_chunks",
    "train",
    "training_net",
]
