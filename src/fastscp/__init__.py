"""A DICOM Store SCP that receives at the speed of the wire and acknowledges only what it has committed."""

__version__ = "0.1.0"
