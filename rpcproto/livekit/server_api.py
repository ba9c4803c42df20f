"""A call by the server's own API: one HTTPS request, without joining the room."""

import json
import re
from typing import Final

from rpcproto.core.errors import (
    STANDARD_MESSAGES,
    ErrorCode,
    LocalProtocolError,
    require_name,
    require_text,
    require_timeout,
)
from rpcproto.errors import RpcError
from rpcproto.livekit.errors import (
    FORBIDDEN,
    NOT_FOUND,
    UNAUTHORIZED,
    ConnectError,
    RefusedError,
    refusal,
)
from rpcproto.livekit.http_requests import HttpAnswer, HttpRequest, fetch
from rpcproto.livekit.tokens import admin_token
from rpcproto.livekit.transport import CONNECT_TIMEOUT, checked_url
from rpcproto.wire import MAX_IDENTITY_BYTES, MAX_METHOD_BYTES, MAX_UINT32, MAX_V1_PAYLOAD_BYTES

RESPONSE_TIMEOUT: Final = 10.0
"""How long the answer may take, in seconds."""
_PATH: Final = "/twirp/livekit.RoomService/PerformRpc"
_OK: Final = 200
_RPC_ERROR: Final = re.compile(r"RpcError ([0-9]{1,10}): (.*)", re.DOTALL)
_CODES: Final = {
    "not_found": ErrorCode.RECIPIENT_NOT_FOUND,
    "unavailable": ErrorCode.RECIPIENT_NOT_FOUND,  # "no response from servers": none has it
    "deadline_exceeded": ErrorCode.RESPONSE_TIMEOUT,
    "bad_route": ErrorCode.UNSUPPORTED_SERVER,
    "unimplemented": ErrorCode.UNSUPPORTED_SERVER,
}
"""What errors of the API mean that are not about the call itself, by their codes."""
_NOT_OPEN: Final = "data channel is not available"
"""What the server says of a participant that is still joining."""


async def perform_rpc_by_server(
    url: str,
    api_key: str,
    api_secret: str,
    room: str,
    *,
    destination_identity: str,
    method: str,
    payload: str,
    response_timeout: float = RESPONSE_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> str:
    """Let the server call a method of a participant in `room`, and return the payload of the
    response.

    This takes one HTTPS request, and does not join the room. `url` is the URL of the server
    (`wss://...` or `https://...`), and `api_key` and `api_secret` are its API key. The call is of
    RPC v1: `payload` and response have at most 15,360 bytes of UTF-8. The handler sees a random
    caller identity. `response_timeout` (10 by default, at most 4,294,967) limits the call, in
    seconds. The whole request can take `connect_timeout` (15 by default) longer. For asyncio. If
    you cancel it, the handler is not cancelled.

    Raises:
        RpcError: As for a call in the room. 1401 (after 3 seconds): no participant in the room
            has this identity, or there is no such room. 1505: the participant is still joining.
            1403: the server has no such API. `__cause__` contains the server's message.
        ConnectError: The request failed. `TokenError`, `RefusedError` and `UnreachableError`
            are more specific.
        LocalProtocolError: An argument is invalid.
    """
    request_url = re.sub("^ws", "http", checked_url(url).rstrip("/")) + _PATH
    token = admin_token(api_key, api_secret, room)
    require_name(destination_identity, "destination_identity", MAX_IDENTITY_BYTES)
    require_name(method, "method", MAX_METHOD_BYTES)
    size = len(require_text(payload, "payload"))
    timeout_ms = round(require_timeout(response_timeout, "response_timeout") * 1000)
    require_timeout(connect_timeout, "connect_timeout")
    if timeout_ms > MAX_UINT32:
        raise LocalProtocolError(f"response_timeout must be at most {MAX_UINT32 // 1000} seconds")
    if size > MAX_V1_PAYLOAD_BYTES:
        raise RpcError(ErrorCode.REQUEST_PAYLOAD_TOO_LARGE)
    body = {
        "room": room,
        "destination_identity": destination_identity,
        "method": method,
        "payload": payload,
        "response_timeout_ms": max(1, timeout_ms),
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = HttpRequest("POST", request_url, headers, json.dumps(body).encode())
    answer = await fetch(request, response_timeout + connect_timeout)
    return _payload_of(HttpAnswer(answer.status, answer.body.replace(token, "...")))


def _payload_of(answer: HttpAnswer) -> str:
    """The payload of the answer. Raises what `perform_rpc_by_server` raises."""
    status, body = answer
    fields = _fields_of(body)
    if status == _OK:
        payload = None if fields is None else fields.get("payload", "")
        if not isinstance(payload, str):
            raise ConnectError("the server's answer makes no sense")
        return payload
    fields = fields or {}
    code, words = str(fields.get("code", "")), str(fields.get("msg", body))
    if status in (UNAUTHORIZED, FORBIDDEN):
        raise refusal(status, words)
    found = _RPC_ERROR.search(words)
    if found is not None:
        raise _rpc_error(int(found[1]), found[2])
    meaning = ErrorCode.SEND_FAILED if _NOT_OPEN in words else _CODES.get(code)
    if meaning is not None:
        raise RpcError(meaning) from RefusedError(words, status)
    if status == NOT_FOUND:
        raise RefusedError("there is no API of a LiveKit server at this URL", status)
    raise refusal(status, words)


def _fields_of(body: str) -> dict[str, object] | None:
    """The fields of a JSON object, or None for anything else."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _rpc_error(code: int, text: str) -> RpcError:
    """The error of a call. The server writes `message: data`, and either may have a colon in it: so
    only what can be told apart is data, that is, JSON or what follows a standard message."""
    standard = STANDARD_MESSAGES.get(code, "")
    if standard and text.startswith(standard):
        return RpcError(code, standard, text[len(standard) :].removeprefix(": "))
    for found in re.finditer(r": (?=[{\[])", text):
        if _is_json(text[found.end() :]):
            return RpcError(code, text[: found.start()], text[found.end() :])
    return RpcError(code, text, "")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
