"""AWS HealthImaging, as far as importing and looking at what was imported goes.

Enters: requests of any AWS SDK, as WSGI. Leaves: data stores, import jobs, image sets and the jobs' output files.
Never: pixel data decoded or stored, an answer that the service's model does not allow.
"""

from fastscp.local.healthimaging.clock import Clock
from fastscp.local.healthimaging.errors import ServiceError
from fastscp.local.healthimaging.faults import Fault, Faults
from fastscp.local.healthimaging.limits import Limits
from fastscp.local.healthimaging.service import HealthImaging

__all__ = ["HealthImaging", "Limits", "Clock", "Fault", "Faults", "ServiceError"]
