"""Profiles of the property tests: quick (default, same examples every time) and deep (FASTSCP_PROPERTY_PROFILE=deep, new ones each time).

Enters: the environment. Leaves: hypothesis settings. Never: a deadline.
"""

import os

from hypothesis import HealthCheck, Phase, settings

SLOW_DRAWS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("quick", max_examples=120, derandomize=True, deadline=None, print_blob=True, suppress_health_check=SLOW_DRAWS)
settings.register_profile(
    "deep",
    max_examples=int(os.environ.get("FASTSCP_PROPERTY_EXAMPLES", "5000")),
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=SLOW_DRAWS,
)
settings.load_profile(os.environ.get("FASTSCP_PROPERTY_PROFILE", "quick"))
