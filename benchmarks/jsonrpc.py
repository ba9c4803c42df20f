"""The same echo in `sansio-jsonrpc`, if it is installed: two messages, no ack, no timers."""

import importlib
import importlib.util
from typing import Any

PACKAGE = "sansio_jsonrpc"


def is_installed() -> bool:
    """Whether there is anything to compare with."""
    return importlib.util.find_spec(PACKAGE) is not None


class JsonRpcPair:
    """Two of its peers."""

    def __init__(self) -> None:
        module: Any = importlib.import_module(PACKAGE)
        self.caller = module.JsonRpcPeer()
        self.responder = module.JsonRpcPeer()

    def echo(self, calls: int, payload: str) -> None:
        """Make calls one after another."""
        caller, responder = self.caller, self.responder
        for _ in range(calls):
            request_id, data = caller.request("echo", {"payload": payload})
            [request] = responder.parse(data)
            answer = responder.respond_with_result(request, request.params["payload"])
            [response] = caller.parse(answer)
            assert response.id == request_id
            assert response.success
