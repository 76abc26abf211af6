"""Which host a stock Pipecat processor gets."""

from __future__ import annotations

from pipecat.pipeline.pipeline import Pipeline as StockPipeline
from pipecat.processors.frame_processor import FrameProcessor

from .host import Host, tree
from .hosted_assistant import HostedAssistant
from .hosted_llm import HostedLLM
from .hosted_stt import HostedSTT
from .hosted_tts import HostedTTS
from .processor import Stage
from .stock import BaseOutputTransport, LLMAssistantAggregator, LLMService, STTService, TTSService


def hosted(stock: FrameProcessor, *, stage: Stage | None = None) -> Host:
    """Make a stock Pipecat processor one of ours, as `Pipeline([...])` does by itself.

    Args:
        stock: A new processor or service.
        stage: Which interruptions reach it. By default TTS services and output transports are
            `Stage.SPEECH`, all others `Stage.WORK`.
    """
    kinds = {kind for kind in (LLMService, TTSService, STTService) if _holds(stock, kind)}
    if kinds == {TTSService}:
        return HostedTTS(stock, stage or Stage.SPEECH)
    if LLMService in kinds:
        return HostedLLM(stock, stage or Stage.WORK)
    if kinds == {STTService}:
        return HostedSTT(stock, stage or Stage.WORK)
    if isinstance(stock, LLMAssistantAggregator):
        return HostedAssistant(stock, stage or Stage.WORK)
    speaks = isinstance(stock, BaseOutputTransport)
    return Host(stock, stage or (Stage.SPEECH if speaks else Stage.WORK))


def hosts(stock: FrameProcessor) -> list[Host]:
    """Host a stock processor; of one of Pipecat's own Pipelines, each of the processors in a row."""
    if type(stock) is StockPipeline:
        return [host for part in stock.processors[1:-1] for host in hosts(part)]
    return [hosted(stock)]


def _holds(stock: FrameProcessor, kind: type[FrameProcessor]) -> bool:
    return any(isinstance(part, kind) for part in tree(stock))


__all__ = ["hosted", "hosts"]
