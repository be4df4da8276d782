"""Deep Q-networks of many agents in one module, their memory, and what they see of a subset."""

import math

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering
from torch import nn


class QNetworks(nn.Module):
    """One two-layer network per agent, as batched matrices; states (B, S) -> values of both actions
    (A, B, 2).
    """

    def __init__(self, n_agents, n_state, n_hidden, generator):
        super().__init__()
        self.w1 = nn.Parameter(
            torch.randn(n_agents, n_state, n_hidden, generator=generator) / math.sqrt(n_state)
        )
        self.b1 = nn.Parameter(torch.zeros(n_agents, 1, n_hidden))
        self.w2 = nn.Parameter(
            0.1 * torch.randn(n_agents, n_hidden, 2, generator=generator) / math.sqrt(n_hidden)
        )
        self.b2 = nn.Parameter(torch.zeros(n_agents, 1, 2))

    def forward(self, states):
        hidden = torch.relu(torch.einsum("bs,ash->abh", states, self.w1) + self.b1)
        return torch.bmm(hidden, self.w2) + self.b2


class Agents:
    """Q-networks that learn from a ring of transitions.

    Parameters
    ----------
    n_agents, n_state, n_hidden : int
    lr, gamma : float
    memory_size, batch_size, target_update : int
        Transitions kept, transitions of an update, updates between two copies to the target
        network.
    replay : {"uniform", "rank"}
        "rank" draws transitions with probability proportional to exp(1 / rank), ranked by mean
        reward.
    rng : RandomState
    """

    def __init__(
        self,
        n_agents,
        n_state,
        *,
        n_hidden,
        lr,
        gamma,
        memory_size,
        batch_size,
        target_update,
        replay,
        rng,
    ):
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        self.online = QNetworks(n_agents, n_state, n_hidden, generator)
        self.target = QNetworks(n_agents, n_state, n_hidden, generator)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.gamma, self.batch_size, self.target_update = gamma, batch_size, target_update
        self.replay, self.rng, self.memory_size = replay, rng, memory_size
        self.states = np.zeros((memory_size, n_state), np.float32)
        self.next_states = np.zeros((memory_size, n_state), np.float32)
        self.actions = np.zeros((memory_size, n_agents), np.int64)
        self.rewards = np.zeros((memory_size, n_agents), np.float32)
        self.n_seen = self.n_updates = 0

    def values(self, state):
        """Values of both actions in one state, (n_agents, 2)."""
        with torch.no_grad():
            return self.online(torch.from_numpy(np.asarray(state, np.float32)[None]))[:, 0].numpy()

    def remember(self, state, actions, rewards, next_state):
        slot = self.n_seen % self.memory_size
        self.states[slot], self.next_states[slot] = state, next_state
        self.actions[slot], self.rewards[slot] = actions, rewards
        self.n_seen += 1

    def draw(self):
        """Positions in the memory for one update."""
        n = min(self.n_seen, self.memory_size)
        if self.replay == "uniform":
            return self.rng.randint(n, size=self.batch_size)
        ranks = np.empty(n)
        ranks[np.argsort(-self.rewards[:n].mean(1), kind="stable")] = np.arange(1, n + 1)
        weight = np.exp(1 / ranks)
        return self.rng.choice(n, self.batch_size, p=weight / weight.sum())

    def learn(self):
        """One update of all agents towards r + gamma max_a Q_target(s', a), once the memory holds a
        batch.
        """
        if self.n_seen < self.batch_size:
            return
        rows = self.draw()
        states, following, actions, rewards = (
            torch.from_numpy(a[rows])
            for a in (self.states, self.next_states, self.actions, self.rewards)
        )
        with torch.no_grad():
            wanted = rewards.T + self.gamma * self.target(following).amax(2)
        values = self.online(states).gather(2, actions.T.unsqueeze(2)).squeeze(2)
        # Agents share nothing: the sum over them gives each the gradient of its own mean over the
        # batch.
        loss = nn.functional.smooth_l1_loss(values, wanted, reduction="none").mean(1).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.n_updates += 1
        if self.n_updates % self.target_update == 0:
            self.target.load_state_dict(self.online.state_dict())


class Standardised:
    """Rewards as deviations from the mean of those so far, in units of their standard deviation."""

    def __init__(self):
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, reward):
        self.n += 1
        gap = reward - self.mean
        self.mean += gap / self.n
        self.squares += gap * (reward - self.mean)
        spread = math.sqrt(self.squares / self.n)
        return (reward - self.mean) / spread if spread > 0 else 0.0


class Scaled:
    """Gains in units of their root mean square so far; a gain stays a gain."""

    def __init__(self):
        self.n, self.squares = 0, 0.0

    def __call__(self, gain):
        self.n += 1
        self.squares += gain * gain
        size = math.sqrt(self.squares / self.n)
        return gain / size if size > 0 else 0.0


# What agents see of a subset
# ---------------------------------------------------------------------------


def describe(values, axis):
    """Mean, standard deviation, minimum, quartiles and maximum along an axis, which becomes one of
    length 7.
    """
    return np.stack(
        [
            values.mean(axis),
            values.std(axis),
            values.min(axis),
            *np.quantile(values, [0.25, 0.5, 0.75], axis=axis),
            values.max(axis),
        ],
        axis,
    )


def standard_columns(values):
    """Columns of mean 0 and variance 1; constant ones become 0."""
    spread = values.std(0)
    return (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)


class StatisticsState:
    """Seven statistics of every column, described over the columns of the subset by the same seven:
    49 numbers and the size.
    """

    size = 50

    def __init__(self, association, rng):
        codes = association.codes / np.maximum(association.codes.max(0), 1)
        self.fields = standard_columns(describe(codes, 0).T)

    def __call__(self, mask):
        return np.r_[describe(self.fields[mask], 0).ravel(), mask.mean()]


class AutoencoderState:
    """Codes of the columns by an autoencoder of sampled rows, averaged over the subset, and the
    size.

    One hidden layer of tanh units reads 128 rows of a column and must give them back; it is trained
    once, on all columns."""

    n_codes, n_rows, n_steps = 8, 128, 200

    def __init__(self, association, rng):
        rows = np.sort(
            rng.choice(
                len(association.codes), min(self.n_rows, len(association.codes)), replace=False
            )
        )
        columns = standard_columns(association.codes[rows].astype(float)).T
        x = torch.from_numpy(columns.astype(np.float32))
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        n_rows = x.shape[1]
        encode = (
            torch.randn(n_rows, self.n_codes, generator=generator) / math.sqrt(n_rows)
        ).requires_grad_()
        decode = (
            torch.randn(self.n_codes, n_rows, generator=generator) / math.sqrt(self.n_codes)
        ).requires_grad_()
        optimizer = torch.optim.Adam([encode, decode], lr=0.01)
        for _ in range(self.n_steps):
            optimizer.zero_grad()
            loss = (torch.tanh(x @ encode) @ decode - x).square().mean()
            loss.backward()
            optimizer.step()
        self.loss = float(loss.detach())
        self.fields = torch.tanh(x @ encode).detach().numpy()
        self.size = self.n_codes + 1

    def __call__(self, mask):
        return np.r_[self.fields[mask].mean(0), mask.mean()]


class GraphState:
    """Statistics and relevance of the columns, passed once along their similarities within the
    subset, mean and spread.

    Nodes are the columns, edges their symmetric uncertainty with ones on the diagonal, rows divided
    by their sums."""

    size = 17

    def __init__(self, association, rng):
        codes = association.codes / np.maximum(association.codes.max(0), 1)
        self.nodes = standard_columns(
            np.column_stack([describe(codes, 0).T, association.relevance])
        )
        self.edges = association.similarity()

    def __call__(self, mask):
        edges = self.edges[np.ix_(mask, mask)]
        passed = (edges / edges.sum(1, keepdims=True)) @ self.nodes[mask]
        return np.r_[passed.mean(0), passed.std(0), mask.mean()]


STATES = {"statistics": StatisticsState, "autoencoder": AutoencoderState, "graph": GraphState}


def group_fields(association, n_groups):
    """Group of every field, int (n_fields,): average linkage by one minus symmetric uncertainty."""
    n_fields = len(association.relevance)
    if n_groups >= n_fields:
        return np.arange(n_fields)
    if n_groups == 1:
        return np.zeros(n_fields, np.int64)
    clusters = AgglomerativeClustering(n_groups, metric="precomputed", linkage="average")
    return clusters.fit_predict(1 - association.similarity())
