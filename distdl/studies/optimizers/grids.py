"""The grids of the first two exercises, and names of settings."""

import itertools

from distdl.studies.features.batched_optimizer import Setting

RATES = (0.1, 0.01, 0.001, 0.0001)
SOFTMAX_RATES = (0.7, 0.5, *RATES)
MOMENTA = BETAS = (0.8, 0.9, 0.95, 0.99)
SOFTMAX_EPS = (1e-7, 1e-8, 1e-9)
ADAGRAD_EPS = 1e-10
"""Default of torch; the published value is unknown."""

GRADIENT_DESCENT, MOMENTUM, ADAGRAD, ADAM = OPTIMIZERS = ("gradient descent", "momentum", "Adagrad", "Adam")


def line() -> list[Setting]:
    """Exercise 1: 88 settings."""
    return _grid(RATES, (1e-8,))


def softmax() -> list[Setting]:
    """Exercise 2: 228 settings. Adam has the learning rates of exercise 1, as published."""
    return _grid(SOFTMAX_RATES, SOFTMAX_EPS)


def _grid(rates: tuple[float, ...], adam_eps: tuple[float, ...]) -> list[Setting]:
    return [
        *(Setting(kind="sgd", lr=lr) for lr in rates),
        *(Setting(kind="sgd", lr=lr, momentum=momentum) for lr, momentum in itertools.product(rates, MOMENTA)),
        *(Setting(kind="adagrad", lr=lr, eps=ADAGRAD_EPS) for lr in rates),
        *(
            Setting(kind="adam", lr=lr, beta1=beta1, beta2=beta2, eps=eps)
            for lr, beta1, beta2, eps in itertools.product(RATES, BETAS, BETAS, adam_eps)
        ),
    ]


def optimizer(setting: Setting) -> str:
    """The published name of an optimizer."""
    if setting.kind == "sgd":
        return MOMENTUM if setting.momentum else GRADIENT_DESCENT
    return ADAGRAD if setting.kind == "adagrad" else ADAM


def label(setting: Setting) -> str:
    """ "Adam, lr 0.1, betas 0.9, 0.99"."""
    kind = optimizer(setting)
    more = {
        MOMENTUM: f", momentum {setting.momentum:g}",
        ADAM: f", betas {setting.beta1:g}, {setting.beta2:g}",
    }
    return f"{kind}, lr {setting.lr:g}{more.get(kind, '')}"


def columns(setting: Setting) -> tuple[str, float, float | None, float | None, float | None]:
    """Table cells of a setting: optimizer, learning rate, momentum, beta1, beta2."""
    adam = setting.kind == "adam"
    return (
        optimizer(setting),
        setting.lr,
        setting.momentum or None,
        setting.beta1 if adam else None,
        setting.beta2 if adam else None,
    )
