"""python -m fastscp is the command fastscp.

Enters: the command line. Leaves: the exit code.
Never: anything else.
"""

import sys

from fastscp.cli import main

if __name__ == "__main__":
    sys.exit(main())
