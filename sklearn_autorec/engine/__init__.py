"""Everything between the encoded table and the network that serves: encoded batches, the training
net, gradient search, optimisers.
"""

from ._batches import EncodedTensors, TrainingBatches, batches_of
from ._controller import CategoricalController
from ._evaluation import Evaluations, HeldOutScore
from ._net import FieldNet
from ._one_shot import UniformPaths, one_shot_scores
from ._optimizers import GRDA, RowAdam
from ._policies import ChoiceSpace, RegularizedEvolution
from ._problem import SearchProblem, training_net
from ._schedule import ArchSchedule, MovedByAdam
from ._training import TrainingPlan, TrainingResult, forward_in_chunks, train

__all__ = [
    "GRDA",
    "ArchSchedule",
    "MovedByAdam",
    "CategoricalController",
    "ChoiceSpace",
    "EncodedTensors",
    "Evaluations",
    "FieldNet",
    "RegularizedEvolution",
    "HeldOutScore",
    "RowAdam",
    "SearchProblem",
    "TrainingBatches",
    "TrainingPlan",
    "TrainingResult",
    "UniformPaths",
    "batches_of",
    "forward_in_chunks",
    "one_shot_scores",
    "train",
    "training_net",
]
