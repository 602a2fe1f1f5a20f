"""Former name of `distdl.studies.runner.trial_process`, for runners of version 0.1 that are still running."""

import sys
import warnings

from distdl.studies.runner.trial_process import main

if __name__ == "__main__":
    warnings.warn("distdl.studies.task is now distdl.studies.runner.trial_process", DeprecationWarning, stacklevel=1)
    sys.exit(main(sys.argv[1:]))
