"""TabM (Gorishniy et al., ICLR 2025) over raw tables, on the authors' layers (``pip install
tabm``).

Numbers have the piecewise-linear embeddings of its paper (48 quantile bins), with missing ones
marked; text columns are indicators up to 64 values and embeddings of length 16 beyond, since
indicators of thousands of ids are not affordable in it. 16 members and two blocks of 256 units
instead of 32 and 512, so that a fit on one thread takes minutes: the published sizes may reach
more."""

import copy
import time

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import nn

ONE_HOT = 64  # values of a column at most that are indicators
SECONDS_A_FIT = 600  # processor seconds


class _Network(nn.Module):
    """Embeddings, then members that share most weights. Returns (n_rows, members)."""

    def __init__(self, bins, sizes, members, n_blocks, d_block, dropout, d_embedding=16):
        super().__init__()
        import rtdl_num_embeddings
        import tabm

        self.numbers = None
        if bins:
            self.numbers = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
                bins, d_embedding, activation=False, version="B"
            )
        self.sizes = sizes
        self.tables = nn.ModuleList(
            nn.Embedding(n, d_embedding) if n > ONE_HOT else nn.Identity() for n in sizes
        )
        for table in self.tables:
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.1)
        widths = [d_embedding] * len(bins) + [d_embedding if n > ONE_HOT else n for n in sizes]
        self.view = tabm.EnsembleView(k=members)
        self.backbone = tabm.make_tabm_backbone(
            d_in=sum(widths),
            n_blocks=n_blocks,
            d_block=d_block,
            dropout=dropout,
            activation="ReLU",
            k=members,
            arch_type="tabm",
            start_scaling_init="normal" if bins else "random-signs",
            start_scaling_init_chunks=widths,
        )
        self.output = tabm.LinearEnsemble(d_block, 1, k=members)

    def forward(self, x, ids):
        """Logits (or standardised ratings) of every member."""
        parts = [] if self.numbers is None else [self.numbers(x).flatten(1)]
        for j, table in enumerate(self.tables):
            if isinstance(table, nn.Embedding):
                parts.append(table(ids[:, j]))
            else:
                parts.append(nn.functional.one_hot(ids[:, j], self.sizes[j]).to(torch.float32))
        return self.output(self.backbone(self.view(torch.cat(parts, 1)))).squeeze(-1)


class _TabM(BaseEstimator):
    """Common part of both; validation rows stop the training."""

    def __init__(
        self,
        members=16,
        n_blocks=2,
        d_block=256,
        dropout=0.1,
        lr=2e-3,
        weight_decay=3e-4,
        batch_size=256,
        max_epochs=60,
        patience=8,
        random_state=None,
    ):
        self.members = members
        self.n_blocks = n_blocks
        self.d_block = d_block
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.random_state = random_state

    def _prepare(self, X, y):
        """Values, bins and scales of the columns; numbers that never vary are left out."""
        import pandas as pd
        import rtdl_num_embeddings

        numeric = [c for c in X if pd.api.types.is_numeric_dtype(X[c].dtype)]
        self.values_ = {
            c: {v: k + 1 for k, v in enumerate(X[c].dropna().unique())}
            for c in X
            if c not in numeric
        }
        self.numeric_ = {
            c: (X[c].median(), X[c].mean(), X[c].std()) for c in numeric if X[c].nunique() > 1
        }
        self.marked_ = [c for c in self.numeric_ if X[c].isna().any()]
        x, ids = self._encode(X)
        bins = (
            rtdl_num_embeddings.compute_bins(x, n_bins=min(48, len(x) - 1)) if self.numeric_ else []
        )
        sizes = [len(v) + 1 for v in self.values_.values()] + [2] * len(self.marked_)
        return x, ids, bins, sizes

    def _encode(self, X):
        x = [(X[c].fillna(median) - mean) / std for c, (median, mean, std) in self.numeric_.items()]
        ids = [X[c].map(values).fillna(0) for c, values in self.values_.items()] + [
            X[c].isna() for c in self.marked_
        ]
        return (
            torch.from_numpy(np.stack([np.asarray(c, dtype=np.float32) for c in x], 1))
            if x
            else torch.zeros(len(X), 0),
            torch.from_numpy(np.stack([np.asarray(c, dtype=np.int64) for c in ids], 1)),
        )

    def fit(self, X, y, X_val=None, y_val=None):
        """Fit; of the epochs the one of least validation loss is kept."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state or 0)
            return self._fit(
                X, np.asarray(y, dtype=np.float32), X_val, np.asarray(y_val, dtype=np.float32)
            )

    def _fit(self, X, y, X_val, y_val):
        self.scale_ = (0.0, 1.0) if self._classifier else (float(y.mean()), float(y.std()))
        x, ids, bins, sizes = self._prepare(X, y)
        y = torch.from_numpy((y - self.scale_[0]) / self.scale_[1])
        self.network_ = _Network(
            bins, sizes, self.members, self.n_blocks, self.d_block, self.dropout
        )
        loss_function = (
            nn.functional.binary_cross_entropy_with_logits
            if self._classifier
            else nn.functional.mse_loss
        )
        optimizer = torch.optim.AdamW(
            self.network_.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        end, best, waited, self.gave_up_ = time.process_time() + SECONDS_A_FIT, np.inf, 0, False
        kept = copy.deepcopy(self.network_.state_dict())
        for epoch in range(self.max_epochs):
            self.network_.train()
            for rows in torch.randperm(len(y)).split(self.batch_size):
                if len(rows) == 1:
                    continue
                out = self.network_(x[rows], ids[rows])
                loss = loss_function(out, y[rows, None].expand_as(out))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network_.parameters(), 1.0)
                optimizer.step()
            loss = self._loss(self._mean(X_val), y_val)
            if loss < best:
                best, waited, self.n_epochs_ = loss, 0, epoch + 1
                kept = copy.deepcopy(self.network_.state_dict())
            else:
                waited += 1
            self.gave_up_ = time.process_time() > end
            if waited >= self.patience or self.gave_up_:
                break
        self.network_.load_state_dict(kept)
        return self

    def _loss(self, mean, y):
        if self._classifier:
            mean = np.clip(mean, 1e-7, 1 - 1e-7)
            return -np.mean(y * np.log(mean) + (1 - y) * np.log(1 - mean))
        return np.mean((mean - y) ** 2)

    @torch.no_grad()
    def _mean(self, X):
        """Mean of the members' probabilities or ratings."""
        self.network_.eval()
        x, ids = self._encode(X)
        parts = [self.network_(*part) for part in zip(x.split(4096), ids.split(4096), strict=True)]
        out = torch.cat(parts).double()
        out = torch.sigmoid(out) if self._classifier else out * self.scale_[1] + self.scale_[0]
        return out.mean(1).numpy()


class TabMClassifier(ClassifierMixin, _TabM):
    """Clicks."""

    _classifier = True

    def predict_proba(self, X):
        """Probabilities of both classes."""
        p = self._mean(X)
        return np.column_stack([1 - p, p])


class TabMRegressor(RegressorMixin, _TabM):
    """Ratings."""

    _classifier = False

    def predict(self, X):
        """Ratings."""
        return self._mean(X)
