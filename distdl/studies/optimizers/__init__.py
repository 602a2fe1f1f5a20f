"""Study `optimizers`: gradient descent, momentum, Adagrad and Adam on three problems.

For the line and the linear layer all settings are trained at once, as one batch; for the convolutional network each
setting is a separate training.
"""

from collections.abc import Mapping

from distdl.report.content import Section
from distdl.studies.base import Outcome, Study
from distdl.studies.optimizers import cnn, line, softmax
from distdl.studies.optimizers.trials import OptimizersSettings, points, trials

QUICK = {
    "cnn_images": 2000,
    "cnn_rates": (1e-2, 1e-3, 1e-4),
    "cnn_batches": (16, 250),
    "other_rates": (1e-1, 1e-2),
    "long_epochs": 4,
    "long_rates": (1e-4,),
    "long_batches": (16,),
}


def findings(settings: OptimizersSettings, outcomes: Mapping[str, Outcome]) -> list[Section]:
    """Return a section for each exercise that has completed trials."""
    sections = []
    if "line" in outcomes and outcomes["line"].completed:
        sections.append(line.section(outcomes["line"].result))
    names = (f"softmax-seed{seed}" for seed in range(settings.softmax_seeds))
    done = [outcomes[name].result for name in names if name in outcomes and outcomes[name].completed]
    if done:
        sections.append(softmax.section(done, settings.softmax_batch))
    third = cnn.section(points(settings), settings.cnn_images, settings.cnn_seeds, outcomes)
    return sections + ([third] if third else [])


STUDY = Study(
    name="optimizers",
    settings=OptimizersSettings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)
