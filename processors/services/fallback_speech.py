"""Voices and recognisers that stand in for one another; see `fallback`.

```python
TTS(FallbackVoice(cartesia_voice, piper_voice))
STT(FallbackTranscriber(openai_transcriber, moonshine))
```
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from ..stt import Transcriber, Utterance
from ..tts import SpeechChunk, Synthesizer
from .errors import ServiceError
from .fallback import Fallback


class FallbackVoice(Fallback[Synthesizer]):
    """A voice made of several: a sentence of which nothing was heard yet is spoken by the next one."""

    def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """See `Synthesizer.synthesize`."""
        return self._stream(lambda voice: voice.synthesize(text))


class FallbackTranscriber(Fallback[Transcriber]):
    """A recogniser made of several: the next one is given the whole turn."""

    def open(self, on_partial: Callable[[str], None]) -> Utterance:
        """See `Transcriber.open`."""
        return _FallbackUtterance(self, on_partial)


class _FallbackUtterance:
    """One turn; keeps its audio for whichever recogniser comes next. Uses `Fallback`'s own methods."""

    def __init__(self, fallback: FallbackTranscriber, on_partial: Callable[[str], None]) -> None:
        self._fallback = fallback
        self._on_partial = on_partial
        self._audio = bytearray()  # all that was fed
        self._member, *self._following = fallback._order()
        self._utterance: Utterance | None = None  # of `_member`; None once all have failed
        self._failure: ServiceError | None = None  # of the last that failed
        self._open()

    def feed(self, pcm: bytes) -> None:
        self._audio += pcm
        if self._utterance is not None:
            try:
                self._utterance.feed(pcm)
            except Exception as error:
                self._next(error)

    async def snapshot(self) -> str:
        return await self._text(lambda utterance: utterance.snapshot())

    async def finish(self) -> str:
        return await self._text(lambda utterance: utterance.finish())

    def cancel(self) -> None:
        self._member.on_trial = False
        if self._utterance is not None:
            self._utterance.cancel()

    async def _text(self, ask: Callable[[Utterance], Awaitable[str]]) -> str:
        while True:
            utterance = self._utterance
            if utterance is None:
                assert self._failure is not None
                raise self._failure
            try:
                text = await self._fallback._next(ask(utterance), self._following or None)
            except Exception as error:
                if utterance is self._utterance:  # else a snapshot has failed before, beside this
                    self._next(error)
            else:
                if utterance is not self._utterance:
                    continue  # given up, beside this: it says "" now, and the next one will say more
                if text:  # "" may be what was cancelled, or asked for anew
                    self._fallback._worked(self._member)
                self._member.on_trial = False
                return text

    def _open(self) -> None:
        member = self._member
        self._fallback._begin(member)

        def on_partial(text: str) -> None:
            if self._member is member:
                self._on_partial(text)

        try:
            self._utterance = member.service.open(on_partial)
            self._utterance.feed(bytes(self._audio))
        except Exception as error:
            self._next(error)

    def _next(self, error: Exception) -> None:
        """Give the turn so far to the next recogniser, if there is one; `finish` tells if not."""
        self._failure = self._fallback._failed(self._member, error)
        self.cancel()
        self._utterance = None
        if self._following:
            self._member, *self._following = self._following
            self._fallback._take_over(self._failure, self._member)
            self._open()


__all__ = ["FallbackTranscriber", "FallbackVoice"]
