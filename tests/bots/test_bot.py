"""Bots in Python and in files: the same pipeline, services by what is there, parts of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bargein import Processor, Session, handles
from bargein.bots import BadBot, Bot, RunningBot, ServiceMissing, draw_svg, draw_text, load_bot
from bargein.bots.parts import LLMPart, ServicePart, every
from bargein.bots.place import Shared
from bargein.pipeline.frames import LLMTextFrame
from bargein.processors.policies import Critical, MinimumWords, MuteUntilFirstReplyEnds, SpeechOnly
from bargein.processors.services.keys import KeyMalformed
from bargein.processors.tools import tool
from bargein.transports.output import AudioOutput

from ..processors.fakes import FakeEndOfTurn, FakeVAD
from ..servers.openai_server import OpenAIServer, Trouble, refuse
from .scripted import Microphone, conversation

OWN = '''
from bargein import Processor, handles
from bargein.pipeline.frames import LLMTextFrame
from bargein.processors.tools import tool


class Shout(Processor):
    """Says everything louder."""

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    @handles(LLMTextFrame)
    def shout(self, frame: LLMTextFrame) -> None:
        self.push(LLMTextFrame(frame.text.upper() + self.mark))


@tool(on_interruption="keep")
def book(day: str) -> str:
    """Book a day."""
    return f"Booked {day}."
'''

LONG = """
name: long
pipeline:
  - VAD: {start_ms: 80}
  - Turn
  - STT: local
  - BargeIn: {duck: 0.25}
  - UserContext
  - LLM: {services: [openai/gpt-4o-mini, local], max_steps: 3}
  - ./own.py:Shout: {mark: "?"}
  - AssistantContext
  - parallel:
      - [Sentences, TTS: local]
      - [pipecat.processors.filters.identity_filter.IdentityFilter]
tools: ["./own.py:book"]
limits: {max_duration_s: 60}
"""


class Shout(Processor):
    """Says everything louder."""

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    @handles(LLMTextFrame)
    def shout(self, frame: LLMTextFrame) -> None:
        self.push(LLMTextFrame(frame.text.upper() + self.mark))


@tool(on_interruption="keep")
def book(day: str) -> str:
    """Book a day."""
    return f"Booked {day}."


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


class TestTwins:
    """A file and the same in Python build the same pipeline."""

    def test_in_the_short_form(self, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TURN_SECRET", "a-secret")
        (own / "bot.yaml").write_text("""
name: twin
description: One of two.
greeting: {text: "Hello, twin.", critical: true}
transport: [phone, webrtc: {ice_servers: ["stun:a.org", {url: "turn:b.org", secret: "${TURN_SECRET}"}]}]
stt: [openai, local]
llm: {service: openai, model: gpt-4o-mini, temperature: 0.5}
tts: cartesia
interruption:
  - MuteUntilFirstReplyEnds
  - Critical
  - SpeechOnly: {MinimumWords: {count: 3}}
  - defaults
tools: ["./own.py:book"]
report_calls: {book: full}
context: {instructions: Be brief., max_messages: 12}
limits: {max_sessions: 1, idle_timeout_s: 30}
""")
        twin = Bot(
            name="twin",
            description="One of two.",
            greeting={"text": "Hello, twin.", "critical": True},
            transport=[
                "phone",
                {"webrtc": {"ice_servers": ["stun:a.org", {"url": "turn:b.org", "secret": "a-secret"}]}},
            ],
            stt=["openai", "local"],
            llm={"service": "openai", "model": "gpt-4o-mini", "temperature": 0.5},
            tts="cartesia",
            interruption=[
                MuteUntilFirstReplyEnds(),
                Critical(),
                SpeechOnly(MinimumWords(count=3)),
                "defaults",
            ],
            tools=[book],
            report_calls={"book": "full"},
            context={"instructions": "Be brief.", "max_messages": 12},
            limits={"max_sessions": 1, "idle_timeout_s": 30},
        )
        self.compare(load_bot(own / "bot.yaml"), twin)

    def test_in_the_long_form(self, own: Path) -> None:
        from pipecat.processors.filters.identity_filter import IdentityFilter

        (own / "bot.yaml").write_text(LONG)
        twin = Bot(
            name="long",
            pipeline=[
                {"VAD": {"start_ms": 80}},
                "Turn",
                {"STT": "local"},
                {"BargeIn": {"duck": 0.25}},
                "UserContext",
                {"LLM": {"services": ["openai/gpt-4o-mini", "local"], "max_steps": 3}},
                {Shout: {"mark": "?"}},
                "AssistantContext",
                {"parallel": [["Sentences", {"TTS": "local"}], [IdentityFilter]]},
            ],
            tools=[book],
            limits={"max_duration_s": 60},
        )
        self.compare(load_bot(own / "bot.yaml"), twin)

    def test_build_what_they_show(self, own: Path) -> None:
        short = Bot(name="same", stt="local", llm="local", tts="local")
        long = Bot(
            name="same",
            pipeline=[
                *("VAD", "Turn", {"STT": "local"}, "BargeIn", "UserContext", {"LLM": "local"}),
                *("AssistantContext", "Sentences", {"TTS": "local"}),
            ],
        )
        self.compare(short, long)

    @staticmethod
    def compare(one: Bot, other: Bot) -> None:
        assert draw_text(one) == draw_text(other)
        assert draw_svg(one) == draw_svg(other)
        ours, theirs = one.declaration, other.declaration
        assert ours.greeting == theirs.greeting
        assert ours.ice_servers == theirs.ice_servers
        assert ours.report_calls == theirs.report_calls
        pipelines = []
        for bot in (one, other):
            shared = Shared(FakeVAD, FakeEndOfTurn([0.9]))
            shared.opened = [
                (part, [lambda session: None] if isinstance(part, LLMPart) else None)
                for part in every(bot.declaration.parts)
                if isinstance(part, ServicePart)
            ]
            with RunningBot(bot, shared).pipeline(Processor(), Processor()) as pipeline:
                pipelines.append([type(processor).__name__ for processor in pipeline.processors])
        assert pipelines[0] == pipelines[1]


async def test_the_long_form_runs_with_parts_of_ones_own_and_of_pipecat(own: Path) -> None:
    (own / "bot.yaml").write_text(LONG)
    async with conversation(load_bot(own / "bot.yaml"), "Hello there.") as talk:
        talk.server.script(["fine"])
        await talk.say()
        await talk.quiet()
        assert talk.said == ["FINE?"]
        assert talk.voice.spoken == ["FINE?"]
        assert "".join(talk.channel.texts("bot-llm-text")) == "FINE?"


async def test_each_session_has_processors_of_its_own() -> None:
    made: list[Shout] = []

    def make() -> Shout:
        made.append(Shout())
        return made[-1]

    bot = Bot(name="x", pipeline=["UserContext", {"LLM": "local"}, make, "AssistantContext"])
    for _ in range(2):
        async with conversation(bot) as talk:
            await talk.write("Hi.")
            assert talk.said == ["HELLO.!"]
    assert len(made) == 2


class TestServices:
    """Which services a bot uses is up to the keys that are set."""

    @pytest.fixture(autouse=True)
    def no_keys(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)  # no .env
        for name in ("OPENAI_API_KEY", "CARTESIA_API_KEY", "BARGEIN_SECRETS"):
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def choices(bot: Bot) -> list[str]:
        return [part.choice for part in every(bot.declaration.parts) if isinstance(part, ServicePart)]

    @pytest.mark.local_models
    def test_local_models_without_keys(self) -> None:
        hearing, thinking, speaking = self.choices(load_bot("assistant"))
        assert thinking == ("language model: SmolLM2 (local); set OPENAI_API_KEY for openai/gpt-4.1-mini")
        assert hearing.startswith("speech recognition: Moonshine tiny (local); set OPENAI_API_KEY")
        assert speaking.startswith("voice: Piper, joe (local); set CARTESIA_API_KEY for cartesia/sonic-3")

    @pytest.mark.local_models
    def test_the_services_whose_keys_are_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CARTESIA_API_KEY", "a-key")
        hearing, thinking, speaking = self.choices(load_bot("assistant"))
        assert hearing.startswith("speech recognition: ink-whisper (cartesia), then Moonshine tiny (local)")
        assert thinking.startswith("language model: SmolLM2 (local)")
        assert speaking.startswith("voice: sonic-3 (cartesia), then Piper, joe (local)")
        assert "a-key" not in hearing + thinking + speaking

    def test_keys_in_the_secrets_file_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "secrets").write_text("OPENAI_API_KEY=a-key\n")
        (tmp_path / "secrets").chmod(0o600)
        monkeypatch.setenv("BARGEIN_SECRETS", str(tmp_path / "secrets"))
        assert self.choices(Bot(name="x", llm="openai/m")) == ["language model: m (openai)"]

    async def test_none_at_all_is_an_error_that_says_what_is_missing(self) -> None:
        bot = Bot(name="x", llm=["openai/gpt-4.1-mini", "openai-responses"])
        with pytest.raises(
            ServiceMissing, match=r"openai/gpt-4\.1-mini: set OPENAI_API_KEY; openai-responses"
        ):
            async with bot.open():
                pass

    async def test_a_key_that_cannot_be_one_is_refused_at_the_start(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "'sk-quoted'")
        with pytest.raises(KeyMalformed, match="OPENAI_API_KEY in the environment has quotes") as raised:
            async with Bot(name="x", llm=["openai", "local"]).open():
                pass
        assert "sk-quoted" not in str(raised.value)

    def test_a_key_in_a_field_for_one_is_looked_at_too(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("GROQ_API_KEY", "gsk-...")
        path = tmp_path / "bot.yaml"
        path.write_text(
            "name: x\nllm: {service: openai, base_url: 'http://127.0.0.1/v1', api_key: '${GROQ_API_KEY}'}\n"
        )
        with pytest.raises(BadBot, match=r"api_key: is a placeholder") as raised:
            load_bot(path)
        assert "gsk-" not in str(raised.value)

    @pytest.mark.real_time
    async def test_another_server_is_asked_without_openais_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "openais-own")
        sent: list[str] = []
        async with OpenAIServer().serving() as server:
            head = server._serve

            async def note(reader: asyncio.StreamReader, writer: Any) -> None:
                readuntil = reader.readuntil

                async def noted(separator: bytes) -> bytes:
                    lines = await readuntil(separator)
                    sent.append(lines.decode())
                    return lines

                reader.readuntil = noted  # type: ignore[assignment]
                await head(reader, writer)

            server._serve = note  # type: ignore[method-assign]
            llm = {"service": "openai", "model": "m", "base_url": server.base_url, "max_tokens": 9}
            bot = Bot(name="x", llm={**llm, "options": {"seed": 4}})
            async with bot.open() as running:
                context = bot.new_context()
                output = AudioOutput(16_000)
                with running.pipeline(Microphone(), output, context=context) as pipeline:
                    async with Session(pipeline) as session:
                        response = await session.send_text("Hi.")
                        assert response.complete
            assert context.messages[-1]["content"] == "Hello."
            (request,) = server.requests
            assert request.body["max_tokens"] == 9
            assert request.body["seed"] == 4
            assert "Bearer" in sent[0]
            assert "openais-own" not in sent[0]

    @pytest.mark.real_time
    @pytest.mark.local_models
    async def test_a_stand_in_is_loaded_when_it_is_needed_and_goes_on_with_the_answer(self) -> None:
        async with OpenAIServer().serving() as server:
            server.answer = lambda messages: ["The", " capital", " of", " France"]
            server.plan(Trouble("cut", after=3), refuse(401))
            paid = {"service": "openai", "model": "paid", "base_url": server.base_url}
            bot = Bot(name="x", llm=[paid, {"service": "local", "temperature": 0}])
            lines: list[str] = []
            async with asyncio.timeout(600), bot.open(lines.append, max_sessions=1) as running:
                assert lines == ["language model: paid (openai), then SmolLM2 (local), loaded when needed"]
                assert len(lines) == bot.steps
                context = bot.new_context()
                output = AudioOutput(16_000)
                with running.pipeline(Microphone(), output, context=context) as pipeline:
                    async with Session(pipeline) as session:
                        answered = session.send_text("What is the capital of France?")
                        assert (await answered).complete
            said = context.messages[-1]["content"]
            assert said.startswith("The capital of France is Paris")
            assert len(server.requests) == 2
            assert len(lines) == 1

    @pytest.mark.real_time
    async def test_the_next_one_takes_over_when_the_first_fails(self) -> None:
        async with OpenAIServer().serving() as gone:
            down = {"service": "openai", "model": "m", "base_url": gone.base_url}
        async with OpenAIServer().serving() as server:
            bot = Bot(name="x", llm=[down, {**down, "base_url": server.base_url}])
            async with bot.open() as running:
                context = bot.new_context()
                with running.pipeline(Microphone(), AudioOutput(16_000), context=context) as pipeline:
                    async with Session(pipeline) as session:
                        await session.send_text("Hi.")
            assert context.messages[-1]["content"] == "Hello."


class TestLimits:
    async def test_a_conversation_ends_after_its_time(self) -> None:
        bot = Bot(name="x", llm="local", limits={"max_duration_s": 100})
        async with conversation(bot) as talk:
            await asyncio.sleep(90)
            await talk.write("Hello?")
            async with asyncio.timeout(20):
                await talk.session.finished()
            assert talk.said == ["Hello."]
            assert talk.ending == "it has lasted 100 s"

    async def test_a_conversation_ends_when_nobody_says_anything(self) -> None:
        bot = Bot(name="x", stt="local", llm="local", tts="local", limits={"idle_timeout_s": 30})
        async with conversation(bot, "One.", "Two.", "Three.") as talk:
            talk.server.answer = lambda messages: ["A long answer. " * 40]  # takes 30 s to say
            for _ in range(2):
                await asyncio.sleep(25)
                await talk.say()
                await talk.quiet()
                assert not talk.session._over.is_set()
            async with asyncio.timeout(31):
                await talk.session.finished()
            assert talk.ending == "nobody has said anything for 30 s"


class TestPictures:
    def test_show_stages_branches_policies_and_tools(self, own: Path) -> None:
        (own / "bot.yaml").write_text(LONG)
        bot = load_bot(own / "bot.yaml")
        text, svg = draw_text(bot), draw_svg(bot)
        words = [
            *("hearing", "thinking", "speaking", "VAD", "start_ms", "ducked to 0.25", "MinimumWords"),
            *("openai/gpt-4o-mini", "or else", "max_steps", "book (keep)", "Shout", "IdentityFilter"),
            *("webrtc, websocket", "60 s each"),
        ]
        for word in words:
            assert word in text
            assert word in svg
        assert "┌─ branch 1" in text
        assert max(map(len, text.splitlines())) <= 100

    def test_as_svg_are_whole_and_hold_everything(self, own: Path) -> None:
        (own / "bot.yaml").write_text(LONG)
        for bot in (load_bot(own / "bot.yaml"), load_bot("receptionist"), load_bot("transcriber")):
            root = ElementTree.fromstring(draw_svg(bot))
            width, height = float(root.attrib["width"]), float(root.attrib["height"])
            cards = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "card"]
            boxes = [tuple(float(card.attrib[n]) for n in ("x", "y", "width", "height")) for card in cards]
            for number, (x, y, w, h) in enumerate(boxes):
                assert 0 <= x < x + w <= width
                assert 0 <= y < y + h <= height
                for x2, y2, w2, h2 in boxes[number + 1 :]:  # none lies on another
                    assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
            assert "prefers-color-scheme: dark" in draw_svg(bot)
            assert "http" not in draw_svg(bot).replace("http://www.w3.org/2000/svg", "")

    def test_escape_what_a_file_says(self) -> None:
        bot = Bot(name='<b>&"x"', llm="local", context="</svg><script>")
        ElementTree.fromstring(draw_svg(bot))
