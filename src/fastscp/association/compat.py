"""Whether the installed pynetdicom is one that this layer was written against.

Enters: nothing. Leaves: nothing, or an error that says what is different. Never: a guess that it will do.
"""

import inspect
import logging
import threading

import pynetdicom
from pynetdicom import _config, acse, association, dimse, dul, evt, fsm, transport

from fastscp.errors import ConfigError

SUPPORTED = "3.0"

# They call an error what a peer did wrong; the association's own record says it, at the level that deserves.
_LOGGERS_OF_PEERS_FAULTS = ("pynetdicom.dimse", "pynetdicom.dul", "pynetdicom.fsm", "pynetdicom.pdu_primitives", "pynetdicom.utils")

# What is relied on beyond the public interface: owner, name, parameters.
_RELIED_ON = (
    (association.Association, "__init__", ("self", "ae", "mode")),
    (association.Association, "_abort_blocking", ("self", "block")),
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
    (association.ServiceUser, "__init__", ("self", "assoc", "mode")),
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
    _check_attributes(version)
    # Its default handlers format every message for a log, under one lock for all associations.
    _config.LOG_HANDLER_LEVEL = "none"
    for name in _LOGGERS_OF_PEERS_FAULTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


# Every attribute that the constructors set which ours do not call; ours set the same.
_ASSOCIATION_ATTRIBUTES = """
    _ae _mode _server requestor acceptor is_established is_rejected is_aborted is_released _sent_abort _sent_release _accepted_cx
    _rejected_cx acse dul dimse _acse_timeout connection_timeout _dimse_timeout _network_timeout network_timeout_response _handlers
    _kill _started_dul _dul_ready _reactor_checkpoint _is_paused _timer_resolution
"""
_DUL_ATTRIBUTES = """
    _assoc socket event_queue to_provider_queue to_user_queue _recv_pdu _idle_timer artim_timer state_machine _run_loop_delay _kill_thread
"""
_SERVICE_USER_ATTRIBUTES = "assoc _mode _ae_title primitive address_info _contexts _user_info _ext_neg _common_ext"
_DIMSE_ATTRIBUTES = "_assoc cancel_req message msg_queue"


def _check_attributes(version: str) -> None:
    stock = association.Association(pynetdicom.AE(), "acceptor")
    of_threads = vars(threading.Thread()).keys()
    for made, attributes in (
        (stock, _ASSOCIATION_ATTRIBUTES),
        (stock.acceptor, _SERVICE_USER_ATTRIBUTES),
        (stock.dul, _DUL_ATTRIBUTES),
        (stock.dimse, _DIMSE_ATTRIBUTES),
    ):
        found = vars(made).keys() - of_threads
        different = ", ".join(sorted(found.symmetric_difference(attributes.split())))
        if different:
            raise ConfigError(
                "pynetdicom", f"version {version} is not the one fastscp knows: {type(made).__name__} has changed: {different}"
            )
