"""Tool calls, as far as the client may know of them, and results that it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
)
from pipecat.processors.frameworks.rtvi import RTVIFunctionCallReportLevel as ReportLevel

from .messages import Message, Send, about, as_json

NAMED = (ReportLevel.NAME, ReportLevel.ARGUMENTS, ReportLevel.FULL)
ARGUED = (ReportLevel.ARGUMENTS, ReportLevel.FULL)


class Calls:
    """Tells of each call's beginning and of its end, once.

    Args:
        send: Sends a message.
        levels: What of a call may be told, by the tool's name; "*" is for all others. Arguments and
            results may be nobody's business: without an entry only a call's id is told.
    """

    def __init__(self, send: Send, levels: Mapping[str, str]) -> None:
        self._send = send
        self._levels = {name: ReportLevel(level) for name, level in levels.items()}
        self._open: dict[str, bool] = {}  # calls that have not ended, and whether they have begun
        self._awaited: dict[str, asyncio.Future[Any]] = {}  # results the client is to give, by call id

    def started(self, frame: FunctionCallsStartedFrame, response_id: str | None) -> None:
        for call in frame.function_calls:
            self._open[call.tool_call_id] = False
            self._tell("started", call.function_name, {}, response_id)

    def in_progress(self, frame: FunctionCallInProgressFrame, response_id: str | None) -> None:
        self._open[frame.tool_call_id] = True
        data: Message = {"tool_call_id": frame.tool_call_id}
        if self._level(frame.function_name) in ARGUED:
            data["arguments"] = as_json(frame.arguments)
        self._tell("in-progress", frame.function_name, data, response_id)

    def cancelled(self, frame: FunctionCallCancelFrame, response_id: str | None) -> None:
        if self._open.pop(frame.tool_call_id, None) is not None:
            self._tell_stopped(frame.function_name, frame.tool_call_id, {"cancelled": True}, response_id)

    def returned(self, frame: FunctionCallResultFrame, response_id: str | None) -> None:
        """A call has its result, which for one that never began only says so."""
        if frame.properties is not None and not frame.properties.is_final:
            return
        begun = self._open.pop(frame.tool_call_id, None)
        if begun is None:
            return
        end: Message = {"cancelled": not begun}
        if begun and self._level(frame.function_name) is ReportLevel.FULL:
            end["result"] = as_json(frame.result)
        self._tell_stopped(frame.function_name, frame.tool_call_id, end, response_id)

    async def client_result(self, call_id: str) -> Any:
        """Wait for what the client answers a call with."""
        result = self._awaited[call_id] = asyncio.get_running_loop().create_future()
        try:
            return await result
        finally:
            del self._awaited[call_id]

    def take_result(self, call_id: str, result: Any) -> None:
        """The client gives a result.

        Raises:
            ValueError: No call waits for it.
        """
        awaited = self._awaited.get(call_id)
        if awaited is None or awaited.done():
            raise ValueError(f"no call {call_id!r} waits for a result of the client")
        awaited.set_result(result)

    def _level(self, name: str) -> ReportLevel:
        return self._levels.get(name) or self._levels.get("*") or ReportLevel.NONE

    def _tell_stopped(self, name: str, call_id: str, end: Message, response_id: str | None) -> None:
        self._tell("stopped", name, {"tool_call_id": call_id, **end}, response_id)

    def _tell(self, phase: str, name: str, data: Message, response_id: str | None) -> None:
        level = self._level(name)
        if level is ReportLevel.DISABLED:
            return
        named = {"function_name": name} if level in NAMED else {}
        self._send(f"llm-function-call-{phase}", {**named, **data, **about(response_id)})
