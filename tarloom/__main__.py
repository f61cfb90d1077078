"""`python -m tarloom` is the `tarloom` command."""

import sys

from tarloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
