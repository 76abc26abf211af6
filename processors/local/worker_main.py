"""The program inside a model's process: loads one engine, then answers requests one after another.

It is run as a plain file, not as a module of `bargein`: a model's process needs its engine and nothing else
(importing the framework would cost each of them some 60 MB), and the GPL-3 engine Piper stays in a program
of its own. So this file imports from the standard library and the engines only.

A message is two 32-bit big-endian lengths, a JSON header and a body. Requests come on standard input, replies
go to what was standard output. When the input ends, the parent is gone or wants no more, and this process
ends at once, also in the middle of a request.
"""

import http.client
import json
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

Header = dict[str, Any]
Handler = Callable[[Header, bytes], tuple[Header, bytes]]

LENGTHS = struct.Struct("!II")

# The parent has sound to send each 20 ms. On two cores with all models at work its event loop waited up to
# 118 ms for a core at niceness 0, up to 45 ms at 5, and less than 15 ms at 10.
# The language model is far ahead of the voice soon: beside it, first audio took 100 ms at 19, 250 ms at 10.
NICENESS = {"moonshine": 10, "piper": 10, "llama": 19}

# Piper's raw output peaks at 0.35 to 0.75 of full scale. One fixed gain keeps the loudness of the pieces of a
# sentence equal; Piper's own normalisation lifts each piece to full scale by a different factor.
PIPER_GAIN = 1.3
# Of full scale. Piper's silence is below 0.001 to 0.005, speech sounds reach it within some 10 ms.
PIPER_SILENCE = 0.02
PIPER_KEPT_LEAD_S = 0.01


def encode(header: Header, body: bytes = b"") -> bytes:
    """One message as bytes."""
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def moonshine(model_directory: str) -> Handler:
    """Speech to text. Body: 16 kHz mono signed 16-bit PCM. Reply: `text`."""
    import numpy as np
    from moonshine_voice.moonshine_api import ModelArch
    from moonshine_voice.transcriber import Transcriber

    # Threshold 0: its own voice detection would cut words off and put invented ones before the speech.
    options = {"vad_threshold": "0.0", "return_audio_data": "false"}
    transcriber = Transcriber(model_directory, ModelArch.TINY, options=options)

    def transcribe(_request: Header, pcm: bytes) -> tuple[Header, bytes]:
        samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
        transcript = transcriber.transcribe_without_streaming(samples.tolist(), 16_000)
        return {"text": " ".join(line.text.strip() for line in transcript.lines).strip()}, b""

    transcribe({}, bytes(2 * 16_000))  # the first run allocates; let no user wait for it
    return transcribe


def piper(model_file: str, config_file: str) -> Handler:
    """Text to speech. Request: `text`, `words` (its words). Body of the reply: mono signed 16-bit PCM.

    Reply: `groups`, one `[letters, first sample, end sample]` for each run of phonemes between spaces, and
    `letters`, the phoneme letters of each word by itself, given only where groups and words do not match.
    """
    import numpy as np
    from piper import PiperVoice, SynthesisConfig

    voice = PiperVoice.load(model_file, config_file, include_alignments=True)
    config = SynthesisConfig(normalize_audio=False, volume=PIPER_GAIN)
    rate = voice.config.sample_rate

    def letters(phonemes: list[str]) -> int:
        return sum(phoneme.isalpha() for phoneme in phonemes)

    def synthesize(request: Header, _body: bytes) -> tuple[Header, bytes]:
        pcm = b""
        groups: list[list[int]] = []
        for sentence in voice.synthesize(request["text"], config, include_alignments=True):
            loud = np.abs(sentence.audio_float_array) > PIPER_SILENCE
            lead = max(0, int(loud.argmax()) - int(PIPER_KEPT_LEAD_S * rate))
            at, between = len(pcm) // 2 - lead, True
            for alignment in sentence.phoneme_alignments or ():
                until = at + int(alignment.num_samples)
                if alignment.phoneme == " ":
                    between = True
                elif alignment.phoneme.isalpha():
                    if between:
                        groups.append([0, max(0, at), until])
                        between = False
                    groups[-1][0] += 1
                    groups[-1][2] = until
                at = until
            pcm += sentence.audio_int16_array[lead:].astype("<i2").tobytes()
        words = request["words"]
        if len(groups) == len(words):
            return {"groups": groups}, pcm
        alone = [sum(map(letters, voice.phonemize(word))) for word in words]
        return {"groups": groups, "letters": alone}, pcm

    synthesize({"text": "Hello.", "words": ["Hello."]}, b"")
    return synthesize


def llama(model_file: str, model: str, port: str, slots: str, context: str) -> Handler:
    """An OpenAI-compatible server on 127.0.0.1. Request: `messages` to prefill into `slot`."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model_file
    params.model_alias = {model}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(context)
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 2
    # A connection that is kept alive holds a thread of the server until the client lets go.
    params.n_threads_http = 64
    # The prompt cache in main memory has handed one conversation's state to another (llama.cpp issue 27148).
    # Each slot's own prefix cache stays on.
    params.cache_ram_mib = 0
    params.fit_params = False
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 0
    server = xllamacpp.Server(params)  # its threads begin to listen some time after this
    while not healthy(int(port)):
        time.sleep(0.005)

    def prefill(request: Header, _body: bytes) -> tuple[Header, bytes]:
        answer = server.handle_chat_completions(
            {"messages": request["messages"], "id_slot": request["slot"], "max_tokens": 1}
        )
        if "error" in answer:
            raise ValueError(answer["error"]["message"])
        return {}, b""

    return prefill


def healthy(port: int) -> bool:
    """Whether llama.cpp's server answers on this port of 127.0.0.1, and is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


ENGINES: dict[str, Callable[..., Handler]] = {
    "moonshine": moonshine,
    "piper": piper,
    "llama": llama,
}


def read_requests(source: BinaryIO, requests: queue.SimpleQueue[tuple[Header, bytes]]) -> None:
    """Runs in a thread of its own, so that the end of the input is seen while the engine computes."""
    while len(lengths := source.read(LENGTHS.size)) == LENGTHS.size:
        head, body = LENGTHS.unpack(lengths)
        requests.put((json.loads(source.read(head)), source.read(body)))
    os._exit(0)


def main(engine: str, *arguments: str) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when its models end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS[engine])
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what an engine prints must not get between the replies
    requests: queue.SimpleQueue[tuple[Header, bytes]] = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()

    def reply(header: Header, body: bytes = b"") -> None:
        rest = memoryview(encode(header, body))
        while rest:
            rest = rest[replies.write(rest) :]

    handle = ENGINES[engine](*arguments)
    reply({"ready": True})
    while True:
        request, body = requests.get()
        try:
            answer, pcm = handle(request, body)
        except Exception:
            reply({"id": request["id"], "failed": traceback.format_exc(limit=-3)})
        else:
            reply({"id": request["id"], **answer}, pcm)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an ordinary end would wait for the thread that reads
