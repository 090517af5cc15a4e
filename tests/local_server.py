"""How the servers of the tests start and stop: on 127.0.0.1, a port of their own, silent."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SilentHandler(BaseHTTPRequestHandler):
    """The base of the handlers; each server makes a class of its own below one, which holds what it serves."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing on stderr."""


@contextlib.contextmanager
def serving(handler: type[SilentHandler], **served):
    """Serve in threads; the address. served: what the handler finds as attributes of itself."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (handler,), served))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
