"""Whether the installed pynetdicom is one that this layer was written against.

Enters: nothing. Leaves: nothing, or an error that says what is different. Never: a guess that it will do.
"""

import inspect

import pynetdicom
from pynetdicom import _config, acse, association, dimse, dul, evt, fsm, transport

from fastscp.errors import ConfigError

SUPPORTED = "3.0"

# What is relied on beyond the public interface: owner, name, parameters.
_RELIED_ON = (
    (association.Association, "__init__", ("self", "ae", "mode")),
    (association.Association, "_bind_defaults", ("self",)),
    (association.Association, "_serve_request", ("self", "msg", "context_id")),
    (association.Association, "kill", ("self",)),
    (acse.ACSE, "_check_async_ops", ("self",)),
    (acse.ACSE, "_check_sop_class_common_extended", ("self",)),
    (acse.ACSE, "_check_sop_class_extended", ("self",)),
    (acse.ACSE, "_check_user_identity", ("self",)),
    (acse.ACSE, "_negotiate_as_acceptor", ("self",)),
    (dul.DULServiceProvider, "_decode_pdu", ("self", "bytestream")),
    (dul.DULServiceProvider, "_process_recv_primitive", ("self",)),
    (dul.DULServiceProvider, "_send", ("self", "pdu")),
    (fsm.StateMachine, "do_action", ("self", "event")),
    (dimse.DIMSEServiceProvider, "receive_primitive", ("self", "primitive")),
    (transport.AssociationSocket, "__init__", ("self", "assoc", "client_socket", "address")),
    (transport.AssociationSocket, "_shutdown_socket", ("self",)),
    (evt, "_add_handler", ("event", "handlers_attr", "handler_arg")),
    (evt, "get_default_handler", ("event",)),
)


def check_pynetdicom() -> None:
    """Raise ConfigError where pynetdicom is not the supported version or lacks what is relied on; otherwise set it up for this process."""
    version = pynetdicom.__version__
    if not version.startswith(SUPPORTED + "."):
        raise ConfigError("pynetdicom", f"version {version} is installed, fastscp needs {SUPPORTED}.x")
    for owner, name, expected in _RELIED_ON:
        function = getattr(owner, name, None)
        found = tuple(inspect.signature(function).parameters) if callable(function) else ()
        if found != expected:
            where = f"{owner.__name__}.{name}"
            raise ConfigError("pynetdicom", f"version {version} is not the one fastscp knows: {where} has changed")
    # Its default handlers format every message for a log, under one lock for all associations.
    _config.LOG_HANDLER_LEVEL = "none"
