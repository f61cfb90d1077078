"""`python -m tarloom.cli` is the `tarloom` command, as `python -m tarloom` is."""

import sys

from tarloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
