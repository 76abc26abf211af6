"""The machine's microphone and loudspeaker, through `sounddevice`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from ..pipeline import BargeinError, Processor
from ..pipeline.frames import InputAudioRawFrame
from ..transports.output import AudioOutput

INPUT_HZ, OUTPUT_HZ = 16_000, 24_000
BLOCK_S = 0.02
AHEAD_S = 0.06  # in the device: less and a busy moment is heard as a gap, more and it stops later


class NoSound(BargeinError, OSError):
    """Raised when there is no microphone or loudspeaker to use; says what is missing."""


class SoundDevice:
    """A microphone and a loudspeaker, open inside its `with` block.

    The devices are asked each 10 ms what they have and need: nothing of them runs in other threads.

    Attributes:
        microphone: The first processor of a pipeline.
        loudspeaker: Its last.

    Raises:
        NoSound: On entering the block.
    """

    def __init__(self) -> None:
        self.microphone = Processor()
        self.loudspeaker = AudioOutput(OUTPUT_HZ)
        self._streams: list[Any] = []

    def __enter__(self) -> SoundDevice:
        try:
            import sounddevice
        except ImportError as error:
            raise NoSound("the package sounddevice is missing: pip install 'bargein[audio]'") from error
        except OSError as error:  # the package is there, the library is not
            raise NoSound(
                f"sounddevice finds no PortAudio ({error}); install it, as libportaudio2"
            ) from error
        try:
            for kind, rate in (
                (sounddevice.RawInputStream, INPUT_HZ),
                (sounddevice.RawOutputStream, OUTPUT_HZ),
            ):
                self._streams.append(kind(samplerate=rate, channels=1, dtype="int16", latency=AHEAD_S))
        except sounddevice.PortAudioError as error:
            self._close()
            raise NoSound(f"no microphone or loudspeaker can be opened: {error}") from error
        self.loudspeaker.playout.delay_ms = 1000 * self._streams[1].latency
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def run(self) -> None:
        """Carry sound to and from a running session, until it is cancelled."""
        heard, played = self._streams
        for stream in self._streams:  # not before: a loudspeaker that is given nothing complains
            stream.start()
        block = int(OUTPUT_HZ * BLOCK_S)
        while True:
            if available := heard.read_available:
                audio, _ = heard.read(available)
                self.microphone.push(InputAudioRawFrame(bytes(audio), INPUT_HZ, 1))
            while played.write_available >= block:
                played.write(self.loudspeaker.playout.read(block))
            await asyncio.sleep(BLOCK_S / 2)

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams.clear()
