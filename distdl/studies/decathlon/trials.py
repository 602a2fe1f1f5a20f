"""Settings and trials of study `decathlon`."""

from dataclasses import asdict, dataclass, field

from distdl.core.config import Text
from distdl.core.errors import UserError, nearest
from distdl.core.profiles import Recipe
from distdl.data.sets.decathlon import DOMAINS, Domain
from distdl.studies.base import Overrides, Repetitions, Trial
from distdl.studies.features.grid import LearningRates, grid_table


@dataclass(frozen=True, kw_only=True)
class DecathlonSettings:
    """ResNet-50 on all ten domains."""

    profile: Text = "resnet50-decathlon"
    """Training profile: network, weights, validation part, epochs and schedule."""
    overrides: Overrides = field(default_factory=dict)
    """Further overrides, for every training."""
    domains: tuple[Text, ...] = tuple(domain.folder for domain in DOMAINS)
    """Domains, by their folder names in the challenge's archive."""
    head_rates: LearningRates = (1.0, 0.1, 0.01, 0.001)
    """Learning rates of the last layer on frozen features, which are computed once."""
    rates: LearningRates = (0.001, 0.01, 0.1)
    """Learning rates of fine-tuning all layers. Empty disables fine-tuning."""
    seeds: Repetitions = 3
    """Number of repetitions of each training."""


def selected_domains(settings: DecathlonSettings) -> list[Domain]:
    by_folder = {domain.folder: domain for domain in DOMAINS}
    for name in settings.domains:
        if name not in by_folder:
            raise UserError(f'domains: "{name}" is not a domain of the decathlon{nearest(name, by_folder)}')
    return [by_folder[name] for name in settings.domains]


def trials(settings: DecathlonSettings) -> list[Trial]:
    """Return for each domain one trial for the grid of last layers, and a training for each learning rate and seed."""
    listed = []
    for domain in selected_domains(settings):
        base = Recipe(profile=settings.profile, overrides={"data.name": domain.name, "data.image_size": 72})
        recipe = base.updated(settings.overrides)
        listed.append(
            Trial(
                name=f"extractor-{domain.folder}",
                call="distdl.studies.decathlon.tasks:extract",
                settings=grid_table(recipe, settings.head_rates, settings.seeds),
                labels={"domain": domain.title, "approach": "frozen features"},
            )
        )
        listed += [
            Trial(
                name=f"finetune-{domain.folder}-lr{lr:g}-seed{seed}",
                call="distdl.studies.decathlon.tasks:tune",
                settings={"recipe": asdict(recipe.updated({"optim.lr": lr, "seed": seed, "checkpoint.keep": 1}))},
                labels={"domain": domain.title, "approach": "fine-tuned", "lr": lr, "seed": seed},
            )
            for seed in range(settings.seeds)
            for lr in settings.rates
        ]
    return listed
