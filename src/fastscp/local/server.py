"""One HTTP server for all services: moto's, and HealthImaging, which moto does not have.

Enters: requests of any AWS SDK, told apart by the service that they are signed for. Leaves: answers.
Never: anything from outside this machine.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from fastscp.errors import ConfigError
from fastscp.local.healthimaging import HealthImaging

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HOST = "127.0.0.1"
_signed_for_healthimaging = re.compile(r"Credential=[^,]*/medical-imaging/aws4_request").search


class Server:
    """Listens on loopback from when it is made; answers between `start` and `stop`.

    Args:
        port: 0 takes a free one.

    Attributes:
        healthimaging: the service that answers for medical-imaging. Another may take its place.
    """

    def __init__(self, healthimaging: HealthImaging, port: int = 0) -> None:
        self.healthimaging = healthimaging
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        # They write a line for each request, and pages for each failure of a function that a state machine deals with.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        logging.getLogger("moto").setLevel(logging.CRITICAL)
        try:
            self._server = make_server(HOST, port, self._dispatch, threaded=True, request_handler=MotoRequestHandler)
        except (OSError, SystemExit) as error:
            # werkzeug ends the process where the port is taken.
            raise ConfigError("--endpoint-port", f"cannot listen on port {port}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws", daemon=True)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _dispatch(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if _signed_for_healthimaging(environ.get("HTTP_AUTHORIZATION", "")):
            return self.healthimaging(environ, start_response)
        with self._one_at_a_time if _is_conditional(environ) else contextlib.nullcontext():
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer


def _is_conditional(environ: "WSGIEnvironment") -> bool:
    """Whether moto looks first and writes then, where AWS does both in one step."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    return target.startswith("DynamoDB_") or target == "AWSStepFunctions.StartExecution" or "HTTP_IF_NONE_MATCH" in environ
