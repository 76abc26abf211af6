"""Pipecat's service classes. Their modules define deprecated ones, and warn of that when imported."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pipecat.processors.aggregators.llm_response_universal import (
        LLMAssistantAggregator,
        LLMUserAggregator,
    )
    from pipecat.services.llm_service import LLMService
    from pipecat.services.stt_service import SegmentedSTTService, STTService
    from pipecat.services.tts_service import InterruptibleTTSService, TTSService
    from pipecat.transports.base_output import BaseOutputTransport
    from pipecat.turns.user_turn_processor import UserTurnProcessor

__all__ = [
    "BaseOutputTransport",
    "InterruptibleTTSService",
    "LLMAssistantAggregator",
    "LLMService",
    "LLMUserAggregator",
    "STTService",
    "SegmentedSTTService",
    "TTSService",
    "UserTurnProcessor",
]
