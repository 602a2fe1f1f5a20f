"""The studies of the registry: distdl's own and those of other packages."""

from distdl.core import registry, targets
from distdl.core.contracts import described
from distdl.core.errors import UserError, nearest
from distdl.studies.base import Study

GROUP = "studies"


def find(name: str) -> Study:
    """Load the study of that name.

    Raises:
        UserError: there is none, several packages offer it, or its package cannot be imported.
    """
    known = registry.rows(GROUP)
    if name not in known:
        raise UserError(
            f'study "{name}" is not known{nearest(name, known)}; a package registers its study under the entry point '
            "distdl.studies (distdl list studies shows all)"
        )
    row = registry.find(GROUP, name)
    study = targets.load(row.factory, f'study "{name}"')
    if not isinstance(study, Study):
        raise UserError(f'study "{name}": {row.factory} is {described(study)}; expected a distdl.studies.base.Study')
    if study.name != name:
        raise UserError(f'study "{name}": the study at {row.factory} calls itself "{study.name}"')
    return study
