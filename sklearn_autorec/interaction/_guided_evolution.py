"""Evolution by quality, age and cost, whose children a learned ranking chooses."""

import json
import math

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from ..engine._policies import DRAWS, AskedAndTold, check_scores, numpy_random, text_of

ROUNDS, RATE, DEPTH = 30, 0.3, 3  # trees of a ranking, their weight and depth
TRIES = 20  # mutations, at least, until a neighbour is new
CURVATURE = 1e-3  # added to that of a leaf, which may have hardly any


def lambda_gradients(predictions, gains):
    """How LambdaRank would move predictions, and by which curvature.

    With positions :math:`r` by prediction, the first being 1, a pair of which i should stand above
    j has the weight
    :math:`\\Delta_{ij} = |g_i - g_j| \\, |1 / \\log_2(1 + r_i) - 1 / \\log_2(1 + r_j)| / Z`, the
    change of NDCG if they changed places, and the loss
    :math:`\\Delta_{ij} \\log(1 + e^{s_j - s_i})`.

    Parameters
    ----------
    predictions : ndarray of shape (n,)
    gains : ndarray of shape (n,)
        What should stand above has more.

    Returns
    -------
    gradient, curvature : ndarray of shape (n,)
        Minus the first and the second derivative of the loss, the weights held.
    """
    position = np.empty(len(gains))
    position[np.argsort(-predictions, kind="stable")] = np.arange(len(gains))
    discount = 1 / np.log2(2 + position)
    ideal = (np.sort(gains)[::-1] / np.log2(2 + np.arange(len(gains)))).sum()
    weight = np.abs(np.subtract.outer(gains, gains) * np.subtract.outer(discount, discount))
    above = np.greater.outer(gains, gains)
    wrong = 1 / (1 + np.exp(np.subtract.outer(predictions, predictions)))
    pull = np.where(above, weight * wrong, 0) / max(ideal, 1e-12)
    bend = pull * (1 - wrong)
    return pull.sum(1) - pull.sum(0), bend.sum(1) + bend.sum(0)


class TreeRanking:
    """Boosted trees that learn in which order candidates stand, by `lambda_gradients`.

    Parameters
    ----------
    features : array of shape (n, n_features)
    scores : array of shape (n,)
        Higher is better.
    """

    def __init__(self, features, scores):
        features, self.trees = np.asarray(features, dtype=float), []
        # A share of the others that are worse: only the order counts.
        gains = np.greater.outer(scores, scores).mean(1)
        predictions = np.zeros(len(gains))
        for _ in range(ROUNDS):
            gradient, curvature = lambda_gradients(predictions, gains)
            tree = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=2, random_state=0)
            leaves = tree.fit(features, gradient).apply(features)
            n = tree.tree_.node_count
            step = np.bincount(leaves, gradient, n) / (
                np.bincount(leaves, curvature, n) + CURVATURE
            )
            self.trees.append((tree, RATE * step))
            predictions += self.trees[-1][1][leaves]

    def predict(self, features):
        """Larger stands above; (n, n_features) -> (n,)."""
        features = np.asarray(features, dtype=float)
        return sum(step[tree.apply(features)] for tree, step in self.trees)


def tournament_odds(n, size):
    """Probability that each of n members, the worst first, is the best of a tournament: the closed
    form C(r + c - 1, c) / C(n + c, c + 1) of rank r with tournaments of c.
    """
    odds = [math.comb(rank + size - 1, size) for rank in range(1, n + 1)]
    return np.array([o / math.comb(n + size, size + 1) for o in odds])


class GuidedEvolution(AskedAndTold):
    """Evolution of plain-dict configurations, none of which is proposed twice.

    The first ``population`` are drawn at random. For a child a parent is drawn from the survivors,
    in favour of good ones, it is mutated ``n_neighbors`` times, and what a `TreeRanking` of all
    scores so far puts first is proposed. Of the twice ``population`` youngest those survive whose
    weighted sum of ranks by quality, age and complexity is lowest.

    It has the methods of `sklearn_autorec.engine.RegularizedEvolution`, and stops and resumes as
    that does.

    Parameters
    ----------
    space : object
        As `GraphSpace`: ``draw``, ``mutate``, ``repair``, ``features`` and ``complexity``.
    generator : torch.Generator
        One number is drawn from it.
    n_evaluations, population, tournament, n_neighbors : int
        With one neighbour nothing is learned.
    weights : (float, float, float)
        Of the ranks by quality, age and complexity.
    batch_size : int
        Children whose parents are drawn before any of them is scored.
    """

    def __init__(
        self,
        space,
        generator,
        *,
        n_evaluations=100,
        population=20,
        tournament=10,
        n_neighbors=100,
        weights=(0.1, 1.0, 0.1),
        batch_size=4,
    ):
        self.settings = {
            "population": population,
            "tournament": tournament,
            "n_neighbors": n_neighbors,
            "weights": list(weights),
            "batch_size": batch_size,
        }
        self.space, self.n_evaluations = space, n_evaluations
        self._random = numpy_random(generator)
        self._told: list = []  # [text, score or None], in the order of their proposal
        self._asked: list[str] = []

    def ask(self):
        """The next candidates; those of the last call again if their scores were not told."""
        if not self._asked:
            seen = {text for text, _ in self._told}
            left = self.n_evaluations - len(seen)
            parents = self._survivors()
            size = self.settings["batch_size"] if parents else self.settings["population"]
            ranking = self._ranking() if parents else None
            for _ in range(min(size, left)):
                text = self._child(parents, ranking, seen) if parents else None
                text = text or self._drawn(seen)
                if text is None:
                    break
                seen.add(text)
                self._asked.append(text)
        return [json.loads(text) for text in self._asked]

    def _drawn(self, seen):
        for _ in range(DRAWS):
            configuration = self.space.repair(self.space.draw(self._random))
            if configuration is not None and text_of(configuration) not in seen:
                return text_of(configuration)
        return None

    def _child(self, parents, ranking, seen):
        odds = tournament_odds(len(parents), self.settings["tournament"])
        parent = json.loads(parents[int(self._random.choice(len(parents), p=odds / odds.sum()))])
        wanted, neighbours = self.settings["n_neighbors"], {}
        for k in range(max(wanted, TRIES)):
            if k >= wanted and neighbours:
                break
            child = self.space.mutate(parent, self._random)
            if text_of(child) not in seen:
                neighbours[text_of(child)] = child
        if ranking is None or len(neighbours) < 2:
            return next(iter(neighbours), None)
        rows = [self.space.features(child) for child in neighbours.values()]
        return list(neighbours)[int(np.argmax(ranking.predict(rows)))]

    def _ranking(self):
        known = [(json.loads(text), score) for text, score in self._told if score is not None]
        if self.settings["n_neighbors"] < 2 or len(known) < 2:
            return None
        rows = [self.space.features(configuration) for configuration, _ in known]
        return TreeRanking(rows, np.array([score for _, score in known]))

    def _survivors(self):
        """Texts of those who may have children, the worst first."""
        n = self.settings["population"]
        young = [member for member in self._told[-2 * n :][::-1] if member[1] is not None]
        scores = np.array([score for _, score in young])
        costs = np.array([self.space.complexity(json.loads(text)) for text, _ in young])
        by_score, by_age, by_cost = self.settings["weights"]
        badness = (
            by_score * ranks(-scores) + by_age * np.arange(len(young)) + by_cost * ranks(costs)
        )
        kept = np.argsort(badness, kind="stable")[:n]
        return [young[k][0] for k in sorted(kept.tolist(), key=lambda k: scores[k])]

    def tell(self, scores):
        """Scores of the candidates that ``ask`` gave, in their order.

        Raises
        ------
        ValueError
            If they are more or fewer.
        """
        scores = check_scores(scores, self._asked)
        self._told += [
            [text, None if math.isnan(score) else score]
            for text, score in zip(self._asked, scores, strict=True)
        ]
        self._asked = []

    def state_dict(self):
        """All that the rest of the search depends on, a dict that JSON knows."""
        return {
            "settings": dict(self.settings),
            "random": self._random.bit_generator.state,
            "told": [list(member) for member in self._told],
            "asked": list(self._asked),
        }

    def _restore(self, state):
        self._told = [list(member) for member in state["told"]]
        self._asked = list(state["asked"])


def ranks(values):
    """0 for the smallest, 1 for the next ...; equals in their order."""
    place = np.empty(len(values))
    place[np.argsort(values, kind="stable")] = np.arange(len(values))
    return place
