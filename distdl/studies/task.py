"""Former name of `distdl.studies.runner.trial_process`, for runners of version 0.1 that are still running."""

import sys

from distdl.core.renamed import warn_old_module
from distdl.studies.runner.trial_process import main

if __name__ == "__main__":
    warn_old_module("python -m distdl.studies.task")
    sys.exit(main(sys.argv[1:]))
