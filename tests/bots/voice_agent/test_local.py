"""The facade with the real local models, in real time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bargein.bots.voice_agent import VoiceAgent
from bargein.bots.voice_agent.events import AudioChunk, SpeechInterrupted, Text, Transcription
from bargein.pipeline.testing import like, regex

JFK = Path(__file__).parent.parent.parent / "data" / "jfk.flac"


@pytest.mark.real_time
@pytest.mark.local_models
async def test_a_recording_is_understood_answered_and_interrupted() -> None:
    async with VoiceAgent(
        model="local", transcription_model="local", speech_model="local", max_messages=20
    ) as agent:
        transcriptions: list[Transcription] = []
        reports: list[SpeechInterrupted] = []
        answers: list[Text] = []
        sounded = asyncio.Event()
        sounds = 0

        def hear(chunk: AudioChunk) -> None:
            nonlocal sounds
            if any(chunk.data):
                sounds += 1
                sounded.set()

        agent.on(Transcription, transcriptions.append)
        agent.on(SpeechInterrupted, reports.append)
        agent.on(Text, answers.append)
        agent.on(AudioChunk, hear)
        answer = asyncio.create_task(agent.send_audio(JFK.read_bytes()))
        await asyncio.wait_for(sounded.wait(), 300)
        assert transcriptions[0].text == like(
            "And so my fellow Americans ask not what your country can do for you "
            "ask what you can do for your country"
        )
        agent.interrupt_current_response("user_clicked_stop")
        before = sounds
        heard = await asyncio.wait_for(answer, 300)
        await asyncio.sleep(1)
        assert sounds == before
        assert [report.heard for report in reports] == [heard]
        assert not agent.speaking
        sounded.clear()
        answer = asyncio.create_task(agent.send_text("Say hello."))
        await asyncio.wait_for(sounded.wait(), 300)
        agent.interrupt_speech("heard_enough")
        assert await asyncio.wait_for(answer, 300)
        speech = await agent.generate_speech_from_text("Ask not what your country can do for you.")
        assert await agent.transcribe_audio(speech) == regex("not what your country can do for you")
