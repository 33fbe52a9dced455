"""Runs the command line: `python -m syntra` and the compiled binary start here."""

import sys

from syntra.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
