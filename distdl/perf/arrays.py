"""Types of numpy arrays."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = Mask | NDArray[np.intp]
"""Selected rows of an array: a mask over all rows, or row indices."""
