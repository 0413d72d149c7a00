"""The import workflow on a virtual clock: the functions of `lambdas/` and their state machine, with HealthImaging's quotas.

Enters: batches and when they close. Leaves: when each was imported. Never: a clock or a network of this machine.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The functions' code root, which is no package of this project: AWS Lambda puts it on the path in the same way.
if str(ROOT / "lambdas") not in sys.path:
    sys.path.insert(0, str(ROOT / "lambdas"))
