"""The default bot: an assistant on local models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..pipeline import Pipeline, Processor
from ..processors.bargein import BargeIn
from ..processors.context import Context
from ..processors.llm import LLM
from ..processors.local import SileroVAD
from ..processors.stt import STT
from ..processors.tts import TTS, Sentences
from ..processors.turn import Turn
from ..processors.vad import VAD
from .local import LocalModels


@contextmanager
def assistant(
    models: LocalModels, context: Context, source: Processor, sink: Processor, *clients: Processor
) -> Iterator[Pipeline]:
    """The bot's pipeline between a transport's ends; holds one of the language model's slots.

    Args:
        models: Shared between sessions.
        context: Of this conversation; made with `local.new_context`.
        source: Pushes the user's audio, mono at 16 kHz.
        sink: Plays the bot's.
        clients: Processors between the language model and the voice, such as `RTVI`.
    """
    slot = models.llama.claim_slot()
    try:
        yield Pipeline(
            [
                source,
                VAD(SileroVAD()),
                Turn(models.smart_turn),
                STT(models.stt),
                BargeIn(),
                context.user,
                LLM(
                    models.client,
                    models.llama.model,
                    temperature=0.3,
                    max_tokens=200,
                    extra_body={"id_slot": slot},
                ),
                context.assistant,
                *clients,
                Sentences(),
                TTS(models.voice),
                sink,
            ]
        )
    finally:
        models.llama.release_slot(slot)
