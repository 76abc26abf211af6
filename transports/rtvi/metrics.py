"""`metrics`: Pipecat's measurements, grouped as its clients expect them."""

from __future__ import annotations

from pipecat.frames.frames import MetricsFrame
from pipecat.metrics.metrics import (
    LLMUsageMetricsData,
    ProcessingMetricsData,
    STTUsageMetricsData,
    TTFAMetricsData,
    TTFATMetricsData,
    TTFBMetricsData,
    TTSUsageMetricsData,
)

from .messages import Message

GROUPS = {
    TTFBMetricsData: "ttfb",
    TTFAMetricsData: "ttfa",
    TTFATMetricsData: "ttfat",
    ProcessingMetricsData: "processing",
    LLMUsageMetricsData: "tokens",
    STTUsageMetricsData: "stt_usage",
    TTSUsageMetricsData: "characters",
}


def grouped(frame: MetricsFrame) -> Message:
    """The frame's measurements by kind; seconds, tokens and characters as Pipecat counts them."""
    groups: Message = {}
    for measured in frame.data:
        kind = next((kind for type_, kind in GROUPS.items() if isinstance(measured, type_)), None)
        if kind is not None:
            told = measured.value if isinstance(measured, LLMUsageMetricsData) else measured
            groups.setdefault(kind, []).append(told.model_dump(exclude_none=True))
    return groups
