"""Training losses: from logits and labels to the mean over a batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """Softmax cross-entropy.

    Args:
        logits: [b, classes].
        labels: [b] int64, or [b, classes] shares of each class.
        label_smoothing: share of the target that is spread over all classes.
    """
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
