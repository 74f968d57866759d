"""`python -m ropegen` is the command `ropegen`."""

import sys

from ropegen.cli import main

if __name__ == "__main__":
    sys.exit(main())
