"""Services whose provider's audio names nothing it belongs to, and goes on after it was cancelled."""

from __future__ import annotations

from typing import Any

from pipecat.processors.frame_processor import FrameDirection

from .frames import PipecatInterruptionFrame
from .host_setup import check_pipecat
from .stock import InterruptibleTTSService, TTSService

# Such services that Pipecat lets keep their connection over an interruption. (Deepgram's first API tells
# when it has cleared: hosted_deepgram.py.) Together's clears only text that it has not begun with.
MODULES = (
    "pipecat.services.bland.tts",
    "pipecat.services.deepgram.flux.tts_base",
    "pipecat.services.deepgram.sagemaker.tts",
    "pipecat.services.together.tts",
    "pipecat.services.xai.tts",
)


def reconnect_when_interrupted(service: TTSService) -> None:
    """Have a service of `MODULES` or an InterruptibleTTSService make its connection anew when it is cut.

    Otherwise what still comes for the old answer would be taken for the beginning of the next one.
    InterruptibleTTSService does so itself while the bot speaks, but not while a slow provider keeps the
    output waiting in the middle of an answer.
    """
    interruptible = isinstance(service, InterruptibleTTSService)
    if not interruptible and not any(kind.__module__ in MODULES for kind in type(service).__mro__):
        return
    check_pipecat(service, "_handle_interruption", "_tts_contexts", "get_audio_contexts")
    check_pipecat(service, *(("_tts_started",) if interruptible else ("_connect", "_disconnect")))
    stock: Any = service
    interrupt = stock._handle_interruption

    async def interrupted(frame: PipecatInterruptionFrame, direction: FrameDirection) -> None:
        open_contexts = (stock._tts_contexts.get(name) for name in stock.get_audio_contexts())
        cut = any(context is not None and context.interruptible for context in open_contexts)
        if cut and interruptible:
            stock._tts_started = True
        await interrupt(frame, direction)
        if cut and not interruptible:
            await stock._disconnect()
            await stock._connect()

    stock._handle_interruption = interrupted
