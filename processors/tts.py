"""Text to speech: the model's text into sentences, sentences into audio that knows its words."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
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
from .text import LIMIT, SentenceSplitter


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

    Args:
        min_chars: Pieces shorter than this are put together with what follows them, but not the first one
            of an answer, with which the voice begins. What was heard is known less exactly for it, if the
            voice tells no times of words.
        max_chars: Text without an end is cut here.
    """

    stage = Stage.SPEECH

    def __init__(self, min_chars: int = 1, max_chars: int = LIMIT) -> None:
        self._new_splitter = partial(SentenceSplitter, least=min_chars, limit=max_chars)
        self._new_splitter()  # refuses what does not fit
        self._answers: dict[Response, _Cut] = {}  # those whose text is not complete

    @handles(LLMTextFrame)
    def split(self, frame: LLMTextFrame) -> None:
        response = self.response
        spoken = response is not None and not frame.skip_tts
        frame.skip_tts = spoken or frame.skip_tts  # it leaves for the TTS as sentences
        self.push(frame)
        if response is not None and spoken:
            response.text += frame.text
            cut = self._answers.setdefault(response, _Cut(self._new_splitter()))
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
            if piece.strip():
                self.push(sentence)


@dataclass
class _Cut:
    """How far the text of one answer has been cut into sentences."""

    splitter: SentenceSplitter
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
        speech: AsyncGenerator[SpeechChunk, None] = frame.speech or self._voice.synthesize(frame.text)
        words = _Words(frame)
        try:
            async for chunk in speech:
                marks = words.take(chunk)
                if chunk.pcm or marks:
                    self._push_audio(chunk.pcm, chunk.sample_rate, frame, marks)
        finally:
            await speech.aclose()
        if words.samples:  # the sentence has been heard to its end, whatever words are known of it
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

    def _push_audio(
        self, pcm: bytes, sample_rate: int, sentence: SentenceFrame, marks: tuple[tuple[int, int], ...]
    ) -> None:
        audio = SpokenAudioFrame(pcm, sample_rate, 1, _id(self.response), marks)
        audio.interruptible = sentence.interruptible
        self.push(audio)


class _Words:
    """The words of one sentence, on their way to the audio in which they end.

    Some voices tell the times of all words before they send the audio, some tell impossible ones.

    Attributes:
        samples: Of the sentence's audio so far.
    """

    def __init__(self, sentence: SentenceFrame) -> None:
        self.samples = 0
        self._sentence = sentence
        self._to_come: list[tuple[int, int]] = []  # sample of the sentence, character of the response

    def take(self, chunk: SpeechChunk) -> tuple[tuple[int, int], ...]:
        """The marks of a chunk of audio, counted from its beginning."""
        sentence, before = self._sentence, self.samples
        for word in chunk.words:
            if math.isfinite(word.end_s) and 0 < word.end <= len(sentence.text):
                mark = (max(0, int(word.end_s * chunk.sample_rate)), sentence.start + word.end)
                insort(self._to_come, mark)
        self.samples += len(chunk.pcm) // 2
        ready = bisect_right(self._to_come, self.samples, key=itemgetter(0))
        marks = tuple((sample - before, character) for sample, character in self._to_come[:ready])
        del self._to_come[:ready]
        return marks


def _id(response: Response | None) -> str | None:
    return response.id if response is not None else None
