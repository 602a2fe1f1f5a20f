"""Published results of the three exercises, as printed and as numbers."""

import math
from dataclasses import dataclass

from distdl.studies.features.batched_optimizer import Setting
from distdl.studies.optimizers.grids import ADAGRAD, ADAM, BETAS, GRADIENT_DESCENT, MOMENTA, MOMENTUM, optimizer

ROUNDING = 1e-12
"""Largest loss that counts as "0" in float32: each of four residuals differs by the last bit of a number up to 4."""


@dataclass(frozen=True)
class Claim:
    """A row of exercise 1's tables: settings, the printed loss, and the range of losses that agree with it."""

    optimizer: str
    lr: float
    text: str
    low: float
    high: float
    first: tuple[float, ...] = ()
    """Values of momentum or beta1; empty if the optimizer has neither."""
    second: tuple[float, ...] = ()
    """Values of beta2."""

    def covers(self, setting: Setting) -> bool:
        if optimizer(setting) != self.optimizer or setting.lr != self.lr:
            return False
        if self.optimizer == ADAM:
            return setting.beta1 in self.first and setting.beta2 in self.second
        return self.optimizer != MOMENTUM or setting.momentum in self.first

    def agrees(self, loss: float | None) -> bool:
        """Whether a loss agrees with the published one; None is a loss that is not finite."""
        return self.low <= (math.inf if loss is None else loss) <= self.high


def _printed(loss: float, digits: float = 0.02) -> tuple[float, float]:
    return loss * (1 - digits), loss * (1 + digits)


_SMALL = ("below 10e-5", 0.0, 10e-5)
LINE = (
    Claim(GRADIENT_DESCENT, 0.1, "712", 100, math.inf),
    Claim(GRADIENT_DESCENT, 0.01, "5.7e-11", *_printed(5.7e-11)),
    Claim(GRADIENT_DESCENT, 0.001, "0.15", *_printed(0.15)),
    Claim(GRADIENT_DESCENT, 0.0001, "1.28", *_printed(1.28)),
    Claim(MOMENTUM, 0.1, "larger than 100", 100, math.inf, MOMENTA),
    Claim(MOMENTUM, 0.01, *_SMALL, (0.8, 0.9)),
    Claim(MOMENTUM, 0.01, "0", 0, ROUNDING, (0.95,)),
    Claim(MOMENTUM, 0.01, "below 0.01", 0, 0.01, (0.99,)),
    Claim(MOMENTUM, 0.001, *_SMALL, MOMENTA),
    Claim(MOMENTUM, 0.0001, "below 1", 0, 1, (0.8, 0.9)),
    Claim(MOMENTUM, 0.0001, "below 0.1", 0, 0.1, (0.95,)),
    Claim(MOMENTUM, 0.0001, *_SMALL, (0.99,)),
    Claim(ADAGRAD, 0.1, "0.01", 0.005, 0.015),
    Claim(ADAGRAD, 0.01, "3.67", *_printed(3.67)),
    Claim(ADAGRAD, 0.001, "19.76", *_printed(19.76)),
    Claim(ADAGRAD, 0.0001, "23.25", *_printed(23.25)),
    Claim(ADAM, 0.1, *_SMALL, BETAS[:3], BETAS[:3]),
    Claim(ADAM, 0.1, "0", 0, ROUNDING, BETAS[:3], (0.99,)),
    Claim(ADAM, 0.1, *_SMALL, (0.99,), BETAS),
    Claim(ADAM, 0.01, *_SMALL, BETAS[:3], BETAS),
    Claim(ADAM, 0.01, "around 10e-4", 1e-4, 1e-2, (0.99,), BETAS),
    Claim(ADAM, 0.001, "larger than 1", 1, math.inf, BETAS, BETAS),
    Claim(ADAM, 0.0001, "larger than 10", 10, math.inf, BETAS, BETAS),
)


def line(setting: Setting) -> Claim:
    """The row of exercise 1's tables that covers a setting."""
    return next(claim for claim in LINE if claim.covers(setting))


@dataclass(frozen=True, kw_only=True)
class Best:
    """Best published result of an optimizer in exercise 2."""

    setting: str
    loss: float
    """Training loss."""
    accuracy: float
    """Test accuracy, in per cent."""


SOFTMAX = {
    GRADIENT_DESCENT: Best(setting="lr 0.7", loss=0.09, accuracy=91),
    MOMENTUM: Best(setting="lr 0.1, momentum 0.8", loss=0.13, accuracy=92),
    ADAGRAD: Best(setting="lr 0.5", loss=0.07, accuracy=91.02),
    ADAM: Best(setting="lr 0.1, betas 0.8, 0.8, eps 1e-9", loss=0.09, accuracy=91.86),
}

CNN_ONE_EPOCH = {  # (learning rate, batch size): test accuracy in per cent, those above 95
    (1e-5, 1): 96.2,
    (1e-5, 2): 95.4,
    (1e-4, 1): 97.6,
    (1e-4, 2): 98.1,
    (1e-4, 4): 98.0,
    (1e-4, 8): 97.3,
    (1e-4, 16): 97.2,
    (1e-3, 1): 97.6,
    (1e-3, 2): 97.1,
    (1e-3, 4): 97.2,
    (1e-3, 8): 98.0,
    (1e-3, 16): 98.7,
    (1e-3, 250): 97.8,
    (1e-3, 500): 96.7,
    (1e-3, 1000): 95.6,
    (1e-2, 1000): 95.6,
}
CNN_FORTY_EPOCHS = {  # (learning rate, batch size): test accuracy in per cent, those above 99
    (1e-5, 8): 99.1,
    (1e-5, 16): 99.1,
    (1e-4, 8): 99.3,
    (1e-4, 16): 99.3,
    (1e-4, 32): 99.2,
    (1e-4, 64): 99.2,
}
