"""Hosting a stock text-to-speech service: its audio becomes speech that knows its words."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pipecat.frames.frames import AggregatedTextFrame
from pipecat.utils.text.base_text_aggregator import TextType

from .frames import (
    DOWNSTREAM,
    Frame,
    FrameDirection,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    PipecatInterruptionFrame,
    SentenceFrame,
    SpeechOnlyInterruptionFrame,
    SpokenAudioFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from .host import Host
from .host_setup import check_pipecat
from .hosted_deepgram import drop_uncleared
from .hosted_reconnect import reconnect_when_interrupted
from .pace import Pace, PacedWords, WordTime
from .processor import handles
from .response import Response
from .stock import TTSService
from .work import Work, current_work


@dataclass(eq=False)
class _Reply:
    """How far the service has come with one answer; positions are characters of `response.text`."""

    given: int = 0  # end of what it was given to speak
    placed: int = 0  # end of the last words it has reported, or text it has begun with
    said: int = 0  # end of what has been spoken for certain, where words are estimated
    audible: bool = False  # audio has come
    ahead: bool = False  # its texts are reported when they are asked for, not when they have been spoken
    pieces: dict[int, tuple[int, int]] = field(default_factory=dict)  # sentences' positions, by frame id
    announced: bool = False


@dataclass(eq=False)
class _Track:
    """The audio of one of the service's contexts."""

    samples: int = 0  # pushed so far
    base: int | None = None  # the clock's time at which its word times begin, ns
    marks: deque[tuple[int, int]] = field(default_factory=deque)  # to come: (sample, character)
    paced: _Paced | None = None  # the text whose words are estimated


@dataclass(eq=False)
class _Paced:
    """A text of which it is only estimated when its words are spoken."""

    words: PacedWords
    character: int  # where it begins in `response.text`
    sample: int  # and in the audio of its track

    def add(self, response: Response, end: int) -> None:
        """It goes on to a character of the response's text."""
        self.words.add(response.text[self.character + len(self.words.text) : end])

    def mark(self, word: WordTime, rate: int, origin: int) -> tuple[int, int]:
        """A word as a mark whose sample is counted from another of the track."""
        return self.sample + int(word.end_s * rate) - origin, self.character + word.end


class HostedTTS(Host):
    """Gives the service sentences, and its audio the marks from which heard text is known.

    With `Sentences` before it the service speaks those; otherwise it cuts the text itself. The text, for
    display, goes round it at once, answer by answer. Where the service reports words with their times, a
    word counts as heard when the next one begins. Otherwise a word's place is its share of the audio, by the
    voice's pace while that is not complete.

    Without an output of ours in the session, all that the service pushes passes as it is.
    """

    tasks_inherit = False
    keeps_frames = True

    async def start(self) -> None:
        self._contexts: dict[str, Work] = {}  # what each of the service's contexts was made for
        self._tracks: dict[str | None, _Track] = {}
        self._replies: dict[Response, _Reply] = {}  # begun, and their end has not come out; in order
        self._waiting: deque[tuple[Frame, Work]] = deque()  # text of answers behind the first of those
        self._last_pts = 0  # of the last word reported, ns
        self._rate = 24_000  # of the last audio, Hz
        self._started = False  # the StartFrame has come out
        self._services = [part for part in self._parts if isinstance(part, TTSService)]
        for service in self._services:
            check_pipecat(service, "create_context_id", "_push_text_frames", "_is_streaming_tokens")
            made = partial(self._made_context, service.create_context_id)
            service.create_context_id = made  # type: ignore[method-assign]
            drop_uncleared(service)
            reconnect_when_interrupted(service)
        # Whether words come with their times, and whether text is spoken as it comes, sentences or not.
        self._tells_times = any(not service._push_text_frames for service in self._services)
        self._streams_tokens = any(service._is_streaming_tokens for service in self._services)
        self._pace = Pace()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        for service in self._services:
            for wrapped in ("create_context_id", "_handle_interruption", "_websocket_connect"):
                vars(service).pop(wrapped, None)

    def _made_context(self, make: Callable[[], str]) -> str:
        context_id = make()
        work = current_work.get()
        if context_id not in self._contexts and work.response is not None:
            self._contexts[context_id] = work
        return context_id

    def _work_of(self, frame: Frame) -> Work:
        work = self._contexts.get(getattr(frame, "context_id", None) or "")
        return super()._work_of(frame) if work is None else work

    # Into the service

    @handles(LLMFullResponseStartFrame)
    def start_reply(self, frame: LLMFullResponseStartFrame, direction: FrameDirection) -> None:
        response = self.response
        if not self._converts(response):
            self.take(frame, direction)
            return
        assert response is not None
        self._replies[response] = _Reply()
        self._show(copy.copy(frame))
        self._give(frame, direction, current_work.get())

    @handles(LLMTextFrame)
    def text(self, frame: LLMTextFrame, direction: FrameDirection) -> None:
        response = self.response
        if not self._converts(response):
            self._give(frame, direction, current_work.get())
            return
        assert response is not None
        if frame.skip_tts:  # sentences say it
            self._show(frame)
            return
        shown = copy.copy(frame)
        shown.skip_tts = True
        self._show(shown)
        start, response.text = len(response.text), response.text + frame.text
        if frame.interruptible:
            self._reply(response).given = len(response.text)
            self._give(frame, direction, current_work.get())
        else:  # the service would make an interruptible sentence of it
            sentence = SentenceFrame(frame.text, TextType.SENTENCE, start=start)
            sentence.interruptible = False
            self.sentence(sentence, direction)

    @handles(SentenceFrame)
    def sentence(self, frame: SentenceFrame, direction: FrameDirection) -> None:
        if self.response is not None:
            reply = self._reply(self.response)
            reply.given = frame.start + len(frame.text)
            reply.pieces[frame.id] = (frame.start, reply.given)
        self.take(frame, direction)

    @handles(TTSSpeakFrame)
    def say(self, frame: TTSSpeakFrame, direction: FrameDirection) -> None:
        """Speak a given text as an answer of its own."""
        if not self.session.voices:
            self.take(frame, direction)
            return
        start, text, end = LLMFullResponseStartFrame(), LLMTextFrame(frame.text), LLMFullResponseEndFrame()
        text.append_to_context = frame.append_to_context
        start.interruptible = text.interruptible = end.interruptible = frame.interruptible
        with self.session.respond(interruptible=frame.interruptible):
            self.start_reply(start, direction)
            self.text(text, direction)
            self.take(end, direction)

    @handles(PipecatInterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(
        self, frame: PipecatInterruptionFrame | SpeechOnlyInterruptionFrame, direction: FrameDirection
    ) -> None:
        self._replies = {r: reply for r, reply in self._replies.items() if not r.interruptible}
        waiting, self._waiting = self._waiting, deque()
        for shown, work in waiting:
            if not shown.interruptible:
                self._waiting.append((shown, work))
            elif isinstance(frame, SpeechOnlyInterruptionFrame) and self._down is not None:
                self._down.send_unspoken(shown, work)  # the answer goes on as text
        super().interrupted(frame, direction)

    # Out of the service

    def _acknowledge(self, work: Work | None) -> None:
        super()._acknowledge(work)
        self._last_pts = 0

    def _emit(self, frame: Frame, direction: FrameDirection, new: bool) -> None:
        response = self.response
        if direction is not DOWNSTREAM or not self._converts(response):
            super()._emit(frame, direction, new)
            if isinstance(frame, StartFrame):
                self._started = True
                self._show_waiting()
            return
        assert response is not None
        if isinstance(frame, TTSAudioRawFrame):
            self._audio(frame, response)
        elif isinstance(frame, TTSTextFrame):
            self._words(frame, response)
        elif isinstance(frame, TTSStartedFrame):
            if not self._reply(response).announced:
                self._reply(response).announced = True
                frame.context_id = response.id
                super()._emit(frame, direction, new)
        elif isinstance(frame, TTSStoppedFrame):
            self._context_ended(frame, response)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self._reply_ended(frame, response)
        elif isinstance(frame, AggregatedTextFrame):
            if not self._tells_times:
                self._reply(response).placed = self._end_of(frame, frame.id, response)
        elif not isinstance(frame, LLMFullResponseStartFrame):
            super()._emit(frame, direction, new)

    def _audio(self, frame: TTSAudioRawFrame, response: Response) -> None:
        track = self._track(frame)
        if track.base is None:
            track.base = max(self._last_pts, self.stock.get_clock().get_time())
        self._rate = frame.sample_rate
        before, track.samples = track.samples, track.samples + len(frame.audio) // 2 // frame.num_channels
        self._reply(response).audible = True
        due: list[tuple[int, int]] = []
        while track.marks and track.marks[0][0] <= track.samples:
            sample, character = track.marks.popleft()
            due.append((sample - before, character))
        if not self._tells_times:
            due += self._estimated(track, response, before)
        spoken = SpokenAudioFrame(frame.audio, frame.sample_rate, frame.num_channels, response.id, tuple(due))
        spoken.interruptible = frame.interruptible
        self.push(spoken)

    def _words(self, frame: TTSTextFrame, response: Response) -> None:
        reply, track = self._reply(response), self._track(frame)
        if not reply.audible:
            reply.ahead = True
            return
        found = self._end_of(frame, frame.segment_id, response)
        if frame.pts is not None and track.base is not None:
            self._last_pts = max(self._last_pts, frame.pts)
            sample = max(0, (frame.pts - track.base) * self._rate // 1_000_000_000)
            if reply.placed:
                self._mark(frame, response, sample, reply.placed)
            reply.placed = found
        else:
            reply.placed = found
            if not (reply.ahead or self._streams_tokens):
                self._spoken(frame, track, response)

    def _estimated(self, track: _Track, response: Response, before: int) -> list[tuple[int, int]]:
        """Words that are spoken in the track's audio so far, as marks in what comes after sample `before`."""
        reply = self._reply(response)
        if track.paced is None:
            track.paced = _Paced(PacedWords("", self._pace), reply.said, before)
        text = track.paced
        text.add(response, reply.given if self._streams_tokens else reply.placed)
        told = text.words.until((track.samples - text.sample) / self._rate)
        return [text.mark(word, self._rate, before) for word in told]

    def _spoken(self, frame: Frame, track: _Track, response: Response) -> None:
        """What has been placed is spoken by the end of the track's audio so far."""
        reply, text = self._reply(response), track.paced
        reply.said, track.paced = reply.placed, None
        marks: list[tuple[int, int]] = []
        if text is not None:
            text.add(response, reply.placed)
            told = text.words.complete((track.samples - text.sample) / self._rate)
            marks = [text.mark(word, self._rate, track.samples) for word in told]
        self._push_marks(frame, response, *marks, (0, reply.placed))

    def _end_of(self, frame: AggregatedTextFrame, piece: int | None, response: Response) -> int:
        """Where a text ends that the service reports, if it is a text of this answer; else where it was."""
        reply = self._reply(response)
        return max(reply.placed, _find(frame.text, response.text, reply.placed, reply.pieces.get(piece or 0)))

    def _context_ended(self, frame: TTSStoppedFrame, response: Response) -> None:
        track = self._tracks.pop(frame.context_id, None)
        if track is not None:
            self._spoken(frame, track, response)

    def _reply_ended(self, frame: LLMFullResponseEndFrame, response: Response) -> None:
        reply = self._replies.pop(response, None)
        if reply is not None and reply.audible:  # all of it was spoken, whatever words were reported
            self._push_marks(frame, response, (0, reply.given))
        stopped = TTSStoppedFrame(context_id=response.id)
        stopped.interruptible = frame.interruptible
        self.push(stopped)
        self.push(frame)
        self._show_waiting()

    def _show_waiting(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for shown, work in waiting:
            token = current_work.set(work)
            try:
                self._show(shown)
            finally:
                current_work.reset(token)

    def _mark(self, frame: Frame, response: Response, sample: int, character: int) -> None:
        """The response will have been heard up to a character once a sample of its track is played."""
        track = self._track(frame)
        if sample > track.samples:
            track.marks.append((sample, character))
        else:
            self._push_marks(frame, response, (sample - track.samples, character))

    def _push_marks(self, frame: Frame, response: Response, *marks: tuple[int, int]) -> None:
        told = SpokenAudioFrame(b"", self._rate, 1, response.id, marks)
        told.interruptible = frame.interruptible
        self.push(told)

    def _show(self, frame: Frame) -> None:
        """Push text of an answer on, behind the answers before it."""
        first = next(iter(self._replies), None)
        if self._started and (first is None or first is self.response):
            self.push(frame)
        else:
            self._waiting.append((frame, current_work.get()))

    def _converts(self, response: Response | None) -> bool:
        return response is not None and bool(self.session.voices)

    def _reply(self, response: Response) -> _Reply:
        return self._replies.get(response) or _Reply()

    def _track(self, frame: Frame) -> _Track:
        return self._tracks.setdefault(getattr(frame, "context_id", None), _Track())


def _find(words: str, text: str, start: int, piece: tuple[int, int] | None) -> int:
    """Where the words end that are spoken next; `start` if they are not there."""
    low, high = piece or (start, min(len(text), start + 4 * len(words) + 40))
    low = max(start, low)
    at = text.find(words.strip(), low, max(high, low))
    return start if at < 0 else at + len(words.strip())


__all__ = ["HostedTTS"]
