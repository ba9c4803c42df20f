"""The answering side of a participant: the methods that it has, and the tasks that run them."""

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import overload

from rpcproto.core.config import RpcConfig
from rpcproto.core.events import InvocationReceived
from rpcproto.participant.handlers import Handlers, HandlerT, require_method
from rpcproto.participant.root import ParticipantRoot


class AnsweringParticipant(ParticipantRoot):
    """Runs handlers, and sends their results as answers."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        super().__init__(identity, config)
        self._handlers = Handlers(identity, config, self._totals)

    # for the program

    @property
    def rpc_methods(self) -> AbstractSet[str]:
        """The names of the registered methods, as a view that changes with them."""
        return self._handlers.methods

    @overload
    def register_rpc_method(self, method_name: str, handler: HandlerT) -> HandlerT: ...
    @overload
    def register_rpc_method(
        self, method_name: str, handler: None = None
    ) -> Callable[[HandlerT], HandlerT]: ...
    def register_rpc_method(
        self, method_name: str, handler: HandlerT | None = None
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Answer requests for a method (1 to 64 bytes of UTF-8) with `handler`. Also a decorator.

        The handler runs in a task of its own, in a copy of the context in which the participant was
        entered. It is cancelled when its answer is no longer needed. The caller receives the text
        that it returns, or an empty text for None. If it raises `RpcError` (alone or as the only
        exception in a group), the caller receives that error. Any other exception, and a result
        that is not a text, is logged, and the caller receives 1500 without details.

        Raises:
            LocalProtocolError: The name is invalid, or the method is registered already.
                (LiveKit's SDK silently replaces the handler.)
        """
        require_method(method_name)
        self.require_owner()
        if handler is None:
            return lambda function: self.register_rpc_method(method_name, function)
        self._handlers.register(self._engine if self._is_open else None, method_name, handler)
        return handler

    def unregister_rpc_method(self, method: str) -> None:
        """Answer requests for `method` with 1400 from now on. Running handlers continue.

        Raises:
            LocalProtocolError: The name is not text of 1 to 64 bytes of UTF-8.
        """
        require_method(method)
        self.require_owner()
        self._handlers.unregister(self._engine if self._is_open else None, method)

    # for the host

    @abstractmethod
    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        """Start a task for an invocation, and return a function that cancels it.

        The task calls `run_handler`, awaits the result if it is awaitable, and passes it to
        `answer`, or the exception to `answer_exception`. It must not run before this method
        returns. When the task has ended, even by cancellation, the host calls `handler_ended`. The
        function that cancels returns False if it did not cancel the task.
        """

    def run_handler(self, invocation: InvocationReceived) -> object:
        """Call a handler, in its task. Return its result, which can be awaitable, and raise what it
        raises."""
        return self._handlers.run(invocation)

    def answer(self, invocation: InvocationReceived, result: object) -> None:
        """Answer with the result of a handler: an empty text for None, and 1500 for anything else
        that is not valid text."""
        self._handlers.answer(self._engine, invocation, result, self._clock())
        self._pump()

    def answer_exception(self, invocation: InvocationReceived, error: BaseException) -> None:
        """Answer with the exception of a handler: with an `RpcError` unchanged if its fields are
        valid, otherwise with 1500 (R18)."""
        self._handlers.answer_exception(self._engine, invocation, error, self._clock())
        self._pump()

    def handler_ended(self, invocation: InvocationReceived) -> None:
        """Report that the task of a handler has ended, whether it answered or not."""
        self._handlers.ended(invocation.invocation_id)

    # within

    def _start_handler(self, invocation: InvocationReceived) -> None:
        refusal = self._handlers.refusal_of(invocation.caller_identity)
        if refusal is None:
            self._handlers.started(invocation, self.start_handler(invocation))
        else:
            self._handlers.refuse(self._engine, invocation, refusal, self._clock())
