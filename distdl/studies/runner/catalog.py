"""Studies by name: distdl's own, those of other packages, and any "package.module:STUDY"."""

import dataclasses

from distdl.core import registry, targets
from distdl.core.contracts import described
from distdl.core.errors import UserError, nearest
from distdl.core.kinds import KINDS
from distdl.studies.base import Study

GROUP = "studies"


def find(name: str) -> Study:
    """Load the study of that name. The name of "package.module:STUDY" is this text, by which its folder finds it.

    Raises:
        UserError: there is none, several packages offer it, or its package cannot be imported.
    """
    known, is_target = registry.rows(GROUP), ":" in name
    if name not in known and not is_target:
        raise UserError(
            f'study "{name}" is not known{nearest(name, known)}; a package registers its study under the entry point '
            "distdl.studies, and package.module:STUDY needs none (distdl list studies shows all)"
        )
    row = registry.find(GROUP, name)
    study = targets.load(row.factory, KINDS[GROUP].where if is_target else f'study "{name}"')
    if not isinstance(study, Study):
        raise UserError(f'study "{name}": {row.factory} is {described(study)}; expected a distdl.studies.base.Study')
    if is_target:
        return dataclasses.replace(study, name=name)
    if study.name != name:
        raise UserError(f'study "{name}": the study at {row.factory} calls itself "{study.name}"')
    return study
