"""An optimizer of another package, as a row that uses one of distdl's fields."""

from distdl.core.registry import Row

ROW = Row(factory="torch.optim:SGD", summary="torch's SGD", uses=("optim.momentum",))
