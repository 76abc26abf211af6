"""The command line: exit codes, what it says of mistakes, JSON, completion."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bargein.bots.cli import bargein as group
from bargein.bots.cli import main
from bargein.bots.sound import NoSound

from ..servers.openai_server import OpenAIServer
from .command import answered, bargein, environment

YEAH, JFK = (str(Path(__file__).parent.parent / "data" / name) for name in ("yeah.wav", "jfk.flac"))
EVENTS: list[dict[str, Any]] = [
    {"t": 0.5, "event": "vad_started"},
    {"t": 1.5, "event": "vad_stopped"},
    {"t": 1.6, "event": "user_said", "text": "Tell me <something>."},
    {"t": 2.0, "event": "bot_started"},
    {
        "t": 3.0,
        "event": "interruption_report",
        "level": "full",
        "reason": "user_clicked_stop",
        "response_id": "r1",
        "silence_ms": 0.1,
        "decision_ms": 0.2,
        "saved_tokens": 7,
    },
    {
        "t": 3.0,
        "event": "turn_report",
        "number": 1,
        "response_id": "r1",
        "outcome": "interrupted",
        "ms": 500.0,
        "parts": {"endpointing": 200.0, "model": 300.0},
        "tokens": 12,
    },
    {"t": 2.5, "event": "pause_report", "reason": "noise", "ms": 180.4, "resumed": False},
    {"t": 2.0, "event": "error", "error": "TTS: it broke"},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return path


class TestHelp:
    def test_it_waits_for_neither_pipecat_nor_models(self) -> None:
        code = (
            "import sys\nfrom bargein.bots.cli import main\nassert main(['--help']) == 0\n"
            "heavy = {'pipecat', 'numpy', 'onnxruntime', 'openai', 'pydantic', 'fastapi', 'asyncio'}\n"
            "print('imported:', heavy & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
        )
        assert done.stdout.endswith("imported: set()\n")

    @pytest.mark.parametrize("command", [*group.commands])
    def test_each_command_has_examples(self, command: str, tmp_path: Path) -> None:
        done = bargein(command, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert f"Usage: bargein {command}" in done.stdout
        assert f"\n    bargein {command}" in done.stdout.partition("Examples:")[2]

    def test_the_version(self, tmp_path: Path) -> None:
        assert bargein("--version", cwd=tmp_path).stdout.startswith("bargein, version ")


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["chek"], "Did you mean 'check'"),
            (["run", "--prt", "1"], "--port"),
            (["run", "--port", "http"], "not a valid integer"),
            (["run", "--port", "70000"], "1<=x<=65535"),
            (["run", "--max-sessions", "0"], "--max-sessions"),
            (["check"], "Missing argument"),
            (["show", "-o", "bot.png"], "should end in .svg"),
            (["trace", "log.jsonl", "-o", "bot.png"], "should end in .html or .svg"),
            (["talk", "in.wav"], "'-o'"),
            (["talk", "a", "b", "c", "-o", "out.wav"], "[BOT] INPUT"),
            (
                ["talk", "storyteller", "-o", "out.wav"],
                "storyteller is a bot; which recording is it to hear?",
            ),
            (["talk", "bot.yaml", "-o", "out.wav"], "bot.yaml is a bot"),
            (["talk", "in.wav", "-o", "out.jsonl"], "should end in .wav"),
            (["run", "--allow-origin", "bot.example.com"], "should be like https://bot.example.com"),
            (["run", "--allow-origin", "https://bot.example.com/page"], "without a path"),
            (["run", "--allow-origin", "*"], "should be like https://bot.example.com"),
            (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
            ([], "Usage: bargein"),
        ],
    )
    def test_exits_with_2_and_says_what_is_wrong(
        self, arguments: list[str], says: str, tmp_path: Path
    ) -> None:
        done = bargein(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["run", "asistant"], "there is no bot asistant; did you mean assistant"),
            (["show", "nothing.yaml"], "nothing.yaml: no such file"),
            (["show", "./nothing.py:bot"], "nothing.py"),
            (["show", "json:dumps"], "is no Bot"),
            (["show", "-o", "nowhere/bot.svg"], "nowhere/bot.svg"),
            (["trace", "nothing.jsonl"], "nothing.jsonl: No such file or directory"),
            (["talk", "nothing.wav", "-o", "out.wav"], "nothing.wav: no such file"),
            (["talk", "typist", "in.wav", "-o", "out.wav"], "typist hears nothing"),
            (["talk", YEAH, "-o", "nowhere/out.wav"], "nowhere: no such directory"),
            (["talk", YEAH, "-o", YEAH], "is a recording that is to be played"),
            (["talk", JFK, "--then", YEAH, "-o", YEAH], "is a recording that is to be played"),
            (["console", "transcriber"], "has no language model to write to"),
            (["new", "a/b"], "should be letters"),
            (["run", "--host", "192.0.2.1"], "cannot listen at 192.0.2.1"),
        ],
    )
    def test_exits_with_1_and_one_line(self, arguments: list[str], says: str, tmp_path: Path) -> None:
        done = bargein(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
            (OSError(errno.EACCES, "Permission denied", "bot.svg"), "bot.svg: Permission denied"),
            (NoSound("no microphone"), "no microphone"),
        ],
    )
    def test_of_the_machine_are_told_without_their_numbers(
        self,
        error: OSError,
        told: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(group, "main", fail)
        assert main([]) == 1
        assert capsys.readouterr().err == f"bargein: {told}\n"

    def test_a_service_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "bot.yaml").write_text("name: b\nllm: openai/gpt-4.1-mini\n")
        done = bargein("console", "bot.yaml", cwd=tmp_path)
        assert done.returncode == 1
        assert "set OPENAI_API_KEY" in done.stderr
        assert "Traceback" not in done.stderr


class TestCheck:
    def test_tells_file_line_field_and_the_nearest_word(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("name: b\nllm: local\nlimits:\n  max_sesions: 3\n")
        done = bargein("check", "assistant", "bad.yaml", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout.splitlines()[0] == "assistant: ok"
        assert "bad.yaml:4:3: limits.max_sesions: unknown; did you mean max_sessions?" in done.stderr

    def test_as_json(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("name: b\nllm: locl\n")
        done = bargein("check", "assistant", "bad.yaml", "--json", cwd=tmp_path)
        assert done.returncode == 1
        good, bad = json.loads(done.stdout)
        assert (good["bot"], good["ok"], good["name"]) == ("assistant", True, "assistant")
        assert (bad["bot"], bad["ok"]) == ("bad.yaml", False)
        (problem,) = bad["problems"]
        assert (problem["file"], problem["line"], problem["field"]) == ("bad.yaml", 2, "llm")
        assert "local" in problem["text"]

    def test_says_what_cannot_be_used_here(self, tmp_path: Path) -> None:
        (tmp_path / "bot.yaml").write_text("name: b\nllm: openai/gpt-4.1-mini\n")
        (found,) = answered("check", "bot.yaml", cwd=tmp_path)
        assert found["ok"]
        assert ["set OPENAI_API_KEY" in text for text in found["missing"]] == [True]

    def test_finds_tools_in_the_working_directory(self, tmp_path: Path) -> None:
        (tmp_path / "own_tools.py").write_text('def hours() -> str:\n    """Hours."""\n    return "9"\n')
        (tmp_path / "bot.yaml").write_text("name: b\nllm: local\ntools: [own_tools:hours]\n")
        done = subprocess.run(
            [str(Path(sys.executable).with_name("bargein")), "show", "bot.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert "hours (finish)" in done.stdout, done.stderr


class TestShow:
    def test_as_text_as_svg_and_as_json(self, tmp_path: Path) -> None:
        assert "SmolLM2" not in (text := bargein("show", "typist", cwd=tmp_path).stdout)
        assert "UserContext" in text
        assert bargein("show", "typist", "-o", "typist.svg", cwd=tmp_path).stdout == ""
        assert ElementTree.parse(tmp_path / "typist.svg").getroot().tag.endswith("svg")
        found = answered("show", "typist", cwd=tmp_path)
        assert found["name"] == "typist"
        assert [part["title"] for part in found["pipeline"]] == [
            "input",
            "UserContext",
            "LLM",
            "AssistantContext",
            "client",
        ]
        assert found["limits"]["max_sessions"] == 8


class TestTrace:
    def test_as_text_and_as_pictures(self, log: Path, tmp_path: Path) -> None:
        text = bargein("trace", log, cwd=tmp_path).stdout
        assert text.splitlines() == [
            "3.0 s of conversation",
            "    2.00  error: TTS: it broke",
            "    2.50  went on after 180 ms, noise",
            "    3.00  turn 1: interrupted, 500 ms to the first sound (endpointing 200, model 300)",
            "    3.00  full interruption, user_clicked_stop: silent after 0 ms, decided after 0 ms, "
            "about 7 tokens saved",
        ]
        for name in ("log.svg", "log.html"):
            assert bargein("trace", log, "-o", name, cwd=tmp_path).returncode == 0
            assert "Tell me &lt;something&gt;." in (tmp_path / name).read_text()

    def test_as_json(self, log: Path, tmp_path: Path) -> None:
        found = answered("trace", log, cwd=tmp_path)
        assert found == {
            "seconds": 3.0,
            "turns": EVENTS[5:6],
            "interruptions": EVENTS[4:5],
            "pauses": EVENTS[6:7],
            "errors": EVENTS[7:],
        }

    @pytest.mark.parametrize(
        ("content", "output", "says"),
        [
            (b"", ["-o", "x.svg"], "has no events"),
            (b'{"t": 1, "event": "turn"}\nno event\n', ["-o", "x.svg"], "line 2"),
            (b'{"t": 1, "event": "user_said"}\n', ["-o", "x.svg"], "has no 'text'"),
            (b'{"t": 1, "event": "turn_report"}\n', [], "has no 'ms'"),
            (b"\xff\xfe\x00", ["-o", "x.svg"], "is no text"),
        ],
    )
    def test_what_is_no_log(self, content: bytes, output: list[str], says: str, tmp_path: Path) -> None:
        (tmp_path / "log").write_bytes(content)
        done = bargein("trace", "log", *output, cwd=tmp_path)
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr


class TestBench:
    def test_an_unknown_name(self, tmp_path: Path) -> None:
        done = bargein("bench", "nothing", cwd=tmp_path)
        assert done.returncode == 2
        assert "no benchmark named nothing" in done.stderr


class TestDoctor:
    @pytest.mark.local_models
    def test_the_default_bot_can_run_here(self, tmp_path: Path) -> None:
        examined = answered("doctor", cwd=tmp_path)
        assert examined["ok"]
        tested = {f["name"]: f["text"] for f in examined["findings"] if f["group"] == "self-test"}
        assert list(tested) == [
            "voice",
            "voice activity",
            "end of turn",
            "speech recognition",
            "language model",
            "WebRTC",
        ]
        assert "speech noticed" in tested["voice activity"]
        assert "test of the voice" in tested["speech recognition"].lower()
        found = {(f["group"], f["name"]): f for f in examined["findings"]}
        assert found["keys", "OPENAI_API_KEY"]["text"] == "not set"
        assert "pipecat-ai 1." in found["packages", "needed"]["text"]

    @pytest.mark.real_time
    async def test_a_bot_of_ones_own(self, tmp_path: Path) -> None:
        async with OpenAIServer().serving() as server:
            server.script(["Hello."])
            llm = json.dumps({"service": "openai", "model": "m", "base_url": server.base_url})
            (tmp_path / "desk.yaml").write_text(f"name: desk\nllm: {llm}\ntransport: websocket\n")
            done = await asyncio.to_thread(bargein, "doctor", "desk.yaml", "--json", cwd=tmp_path)
        examined = json.loads(done.stdout)
        assert (done.returncode, examined["bot"], examined["ok"]) == (0, "desk", True)
        tested = {f["name"]: f["text"] for f in examined["findings"] if f["group"] == "self-test"}
        assert list(tested) == ["language model"]
        assert tested["language model"].startswith("m: first word after")

    def test_no_key_is_told(self, tmp_path: Path) -> None:
        """Nobody is asked either: the secrets file cannot be read."""
        key = "sk-this-is-no-key-0123456789"
        done = bargein("doctor", cwd=tmp_path, CARTESIA_API_KEY=key, BARGEIN_SECRETS=str(tmp_path / "none"))
        assert done.returncode == 1
        assert "cannot run here" in done.stdout
        assert "none, which cannot be read" in done.stdout
        assert key not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
