"""Probes: how well a logistic regression, fitted afterwards, tells a class from given features."""

from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import logsumexp, softmax

from recjax.errors import DataError
from recjax.evaluate import click


class Probe(NamedTuple):
  """What a probe found, means over folds.

  Attributes:
    auc: area under the ROC curve; with more than two classes the mean of each against the rest.
    macro_f1: mean over classes of F1, 0 for a class that is never guessed.
    accuracy: share of right guesses.
  """

  auc: float
  macro_f1: float
  accuracy: float


def probe(
  features: np.ndarray, label: np.ndarray, fold: np.ndarray, l2: float, standardize: bool
) -> Probe:
  """Cross-validated probe of labels [n] from features [n, D]; each fold is judged by the others' fit.

  Args:
    features: finite numbers.
    label: codes 0 .. C - 1.
    fold: number of each case's fold, from `folds`.
    l2: weight of the ridge penalty l2 / 2 |W|^2 beside the summed loss; the intercept is free.
    standardize: divide by the training folds' deviation; means are taken off either way.
  """
  features = np.asarray(features, np.float64)
  if not np.isfinite(features).all():
    raise DataError("Some features to probe are NaN or infinite.")
  found = []
  for held in range(fold.max() + 1):
    train, test = fold != held, fold == held
    mean, deviation = features[train].mean(axis=0), features[train].std(axis=0)
    # What does not vary tells nothing; what varies by rounding must not be blown up.
    varies = deviation > 1e-9 * np.abs(mean)
    scale = deviation[varies] if standardize else 1.0
    scaled = (features[:, varies] - mean[varies]) / scale
    weights = fit_logistic(scaled[train], label[train], l2)
    logits = predict_logits(scaled[test], weights)
    guess = logits.argmax(axis=1)
    found.append((
      _auc(label[test], logits), macro_f1(label[test], guess, logits.shape[1]),
      (guess == label[test]).mean(),
    ))
  return Probe(*np.mean(found, axis=0).tolist())


def folds(users: np.ndarray, label: np.ndarray, count: int, seed: int) -> np.ndarray:
  """Fold 0 .. count - 1 of each case [n]: cases of one user share it, classes are dealt out evenly.

  Raises DataError where a class has fewer users than folds, or there is one class only.
  """
  owner, first = np.unique(users, return_index=True)
  of_owner = label[first]
  order = np.random.default_rng(seed).permutation(len(owner))
  fold = np.zeros(len(owner), np.int64)
  classes, sizes = np.unique(of_owner, return_counts=True)
  if len(classes) < 2 or sizes.min() < count:
    raise DataError(
      f"A probe in {count} folds needs two classes or more of {count} users each; there are "
      f"{sizes.tolist()}."
    )
  for value in classes:
    members = order[of_owner[order] == value]
    fold[members] = np.arange(len(members)) % count
  return fold[np.searchsorted(owner, users)]


def fit_logistic(features: np.ndarray, label: np.ndarray, l2: float) -> np.ndarray:
  """Weights [D + 1, C'] of the ridge-penalised logistic regression, the intercept last.

  Two classes have one column, of class 1 against class 0; more have one each. The objective is convex
  and L-BFGS starts from zero, so the result is a function of the data.
  """
  classes = int(label.max()) + 1
  columns = 1 if classes == 2 else classes
  width = features.shape[1]
  design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
  truth = np.eye(classes)[label][:, -columns:]

  def value(flat):
    weights = flat.reshape(width + 1, columns)
    logits = _wide(design @ weights)
    loss = (logsumexp(logits, axis=1) - logits[np.arange(len(label)), label]).sum()
    gradient = design.T @ (softmax(logits, axis=1)[:, -columns:] - truth)
    gradient[:-1] += l2 * weights[:-1]
    return loss + 0.5 * l2 * np.square(weights[:-1]).sum(), gradient.reshape(-1)

  start = np.zeros((width + 1) * columns)
  options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-5}
  return scipy.optimize.minimize(
    value, start, jac=True, method="L-BFGS-B", options=options
  ).x.reshape(width + 1, columns)


def predict_logits(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Logits [n, C] of all classes from features [n, D] and what `fit_logistic` gives."""
  return _wide(features @ weights[:-1] + weights[-1])


def macro_f1(label: np.ndarray, guess: np.ndarray, classes: int) -> float:
  """Mean over classes of 2 hits / (guessed + true); a class that is neither counts 0."""
  hits = np.bincount(label[label == guess], minlength=classes)
  both = np.bincount(label, minlength=classes) + np.bincount(guess, minlength=classes)
  return float((2 * hits / np.maximum(both, 1)).mean())


def _wide(logits: np.ndarray) -> np.ndarray:
  """Logits of two classes from one column, others as they are."""
  if logits.shape[1] > 1:
    return logits
  return np.concatenate([np.zeros_like(logits), logits], axis=1)


def _auc(label: np.ndarray, logits: np.ndarray) -> float:
  """AUC of the second of two classes, or the mean of each class against the rest."""
  if logits.shape[1] == 2:
    return click.auc(label, logits[:, 1] - logits[:, 0])
  rest = lambda c: logsumexp(np.delete(logits, c, axis=1), axis=1)
  areas = [click.auc(label == c, logits[:, c] - rest(c)) for c in range(logits.shape[1])]
  return float(np.mean(areas))
