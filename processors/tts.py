"""Text to speech: the model's text into sentences, sentences into audio that knows its words."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from pipecat.utils.text.base_text_aggregator import TextType

from ..pipeline import Processor, Response, SpokenAudioFrame, Stage, handles
from ..pipeline.frames import (
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SentenceFrame,
    SpeechOnlyInterruptionFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from .say import as_answer
from .services.fallback import Fallback
from .text import SentenceSplitter


class WordTime(Protocol):
    """When a word is spoken: characters of the text asked for, seconds from the start of its audio."""

    @property
    def end(self) -> int: ...
    @property
    def end_s(self) -> float: ...


class SpeechChunk(Protocol):
    """A stretch of synthesised speech: mono s16le audio, and the words that end in it."""

    @property
    def pcm(self) -> bytes: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def words(self) -> tuple[WordTime, ...]: ...


class Synthesizer(Protocol):
    """A voice."""

    def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Speak a text; closing the generator cancels it."""
        ...


class Sentences(Processor):
    """Cuts each answer into pieces that can be spoken, and passes its text on for display.

    Put it before the TTS. It writes `response.text`, the text that was given to be spoken.
    """

    stage = Stage.SPEECH

    def __init__(self) -> None:
        self._answers: dict[Response, _Cut] = {}  # those whose text is not complete

    @handles(LLMTextFrame)
    def split(self, frame: LLMTextFrame) -> None:
        response = self.response
        spoken = response is not None and not frame.skip_tts
        frame.skip_tts = spoken or frame.skip_tts  # it leaves for the TTS as sentences
        self.push(frame)
        if response is not None and spoken:
            response.text += frame.text
            cut = self._answers.setdefault(response, _Cut())
            self._speak(cut, cut.splitter.feed(frame.text), frame.interruptible)

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame) -> None:
        if self.response in self._answers:
            cut = self._answers.pop(self.response)
            self._speak(cut, cut.splitter.flush(), frame.interruptible)
        self.push(frame)

    @handles(TTSSpeakFrame)
    def say(self, frame: TTSSpeakFrame) -> None:
        """Speak a given text as an answer of its own."""
        start, text, end = as_answer(frame)
        with self.session.respond(interruptible=frame.interruptible):
            self.push(start)
            self.split(text)
            self.end(end)

    @handles(InterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        self._answers = {r: cut for r, cut in self._answers.items() if not r.interruptible}

    def _speak(self, cut: _Cut, pieces: list[str], interruptible: bool) -> None:
        for piece in pieces:
            sentence = SentenceFrame(piece, TextType.SENTENCE, start=cut.position)
            sentence.interruptible = interruptible
            cut.position += len(piece)
            self.push(sentence)


@dataclass
class _Cut:
    """How far the text of one answer has been cut into sentences."""

    splitter: SentenceSplitter = field(default_factory=SentenceSplitter)
    position: int = 0  # characters that left


class TTS(Processor):
    """Speaks SentenceFrames: SpokenAudioFrames with word marks, TTSStoppedFrame after the last one.

    Args:
        voice: The synthesizer; shared between sessions, the caller closes it.
    """

    stage = Stage.SPEECH

    def __init__(self, voice: Synthesizer) -> None:
        self._voice = voice
        if isinstance(voice, Fallback):
            voice.users.add(self)

    @handles(SentenceFrame)
    async def speak(self, frame: SentenceFrame) -> None:
        speech = self._voice.synthesize(frame.text)
        before = 0  # samples of this sentence pushed so far
        try:
            async for chunk in speech:
                self._push_audio(chunk.pcm, chunk.sample_rate, frame, self._marks(chunk, frame, before))
                before += len(chunk.pcm) // 2
        finally:
            await speech.aclose()
        if before:  # the sentence has been heard to its end, whatever words are known of it
            self._push_audio(b"", chunk.sample_rate, frame, ((0, frame.start + len(frame.text)),))

    @handles(LLMFullResponseStartFrame)
    def begin(self, frame: LLMFullResponseStartFrame) -> None:
        self.push(frame)
        started = TTSStartedFrame(context_id=_id(self.response))
        self.push(started)

    @handles(LLMFullResponseEndFrame)
    def end(self, frame: LLMFullResponseEndFrame) -> None:
        stopped = TTSStoppedFrame(context_id=_id(self.response))
        stopped.interruptible = frame.interruptible
        self.push(stopped)
        self.push(frame)

    @staticmethod
    def _marks(chunk: SpeechChunk, sentence: SentenceFrame, before: int) -> tuple[tuple[int, int], ...]:
        rate = chunk.sample_rate
        return tuple((int(w.end_s * rate) - before, sentence.start + w.end) for w in chunk.words)

    def _push_audio(
        self, pcm: bytes, sample_rate: int, sentence: SentenceFrame, marks: tuple[tuple[int, int], ...]
    ) -> None:
        audio = SpokenAudioFrame(pcm, sample_rate, 1, _id(self.response), marks)
        audio.interruptible = sentence.interruptible
        self.push(audio)


def _id(response: Response | None) -> str | None:
    return response.id if response is not None else None
