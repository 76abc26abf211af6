"""Bot files: what they may say, and what a mistake in one is told as."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bargein.bots import BadBot, Bot, NoSuchBot, draw_text, load_bot, shipped_bots
from bargein.bots.interruption import MODELS
from bargein.bots.schema import FILE, json_schema
from bargein.processors import policies

Write = Callable[..., Path]

SECRET = "sk-proj-abcdefghijklmnop1234567890"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "bot.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path: Path) -> list[str]:
    """Each as "line:column: field: text"."""
    with pytest.raises(BadBot) as caught:
        load_bot(path)
    assert str(caught.value).count("\n") == len(caught.value.problems) - 1
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_bot_in_twelve_lines(write: Write) -> None:
    text = """\
name: twelve
stt: local
llm: openai/gpt-4o-mini
tts: cartesia
interruption:
  - MuteUntilFirstReplyEnds
  - MinimumWords: {count: 2}
  - defaults
context:
  instructions: Be brief.
  max_messages: 30
limits: {max_sessions: 3, idle_timeout_s: 60}
"""
    assert text.count("\n") == 12
    declaration = load_bot(write(text)).declaration
    speaking = declaration.interruption.policies.speaking
    assert speaking[:2] == (policies.MuteUntilFirstReplyEnds(), policies.MinimumWords(count=2))
    assert len(speaking) == 2 + len(policies.while_speaking())
    assert declaration.llm is not None
    assert [service.label for service in declaration.llm.services] == ["openai/gpt-4o-mini"]
    assert declaration.limits.max_sessions == 3


def test_all_mistakes_are_told_at_once_with_their_places(write: Write) -> None:
    path = write("""\
name: bad
stt: locl
llm:
  service: openai
  modle: gpt-4o
interuption: [Critical]
interruption:
  speaking:
    - MinimumWord: {count: 2}
    - MinimumWords: {cuont: 2, after_ms: soon}
    - Backchannel: {is_backchannel: {language: xx}}
    - SpeechOnly: [Nois]
tools: [nosuch:thing]
limits: {max_sessions: 0}
transport: [webrtc, websockets]
""")
    assert problems(path) == [
        "2:6: stt: locl is no speech recognition service; did you mean local?",
        "5:3: llm.modle: unknown; did you mean model?",
        "6:1: interuption: unknown; did you mean interruption?",
        "9:7: interruption.speaking[0]: MinimumWord is no policy; did you mean MinimumWords?",
        "10:22: interruption.speaking[1].MinimumWords.cuont: unknown; did you mean count?",
        "10:42: interruption.speaking[1].MinimumWords.after_ms: "
        "Input should be a valid number, unable to parse string as a number",
        "11:20: interruption.speaking[2].Backchannel: knows no xx",
        "12:20: interruption.speaking[3].SpeechOnly[0]: Nois is no policy; did you mean Noise?",
        "13:9: tools[0]: nosuch cannot be imported: ModuleNotFoundError: No module named 'nosuch'",
        "14:24: limits.max_sessions: Input should be greater than or equal to 1",
        "15:21: transport[1]: websockets is no transport; did you mean websocket?",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nllm: [local\n", "3:1: is no YAML: expected ',' or ']', but got '<stream end>'"),
        ("- a\n- b\n", "1:1: should be a mapping: `name: ...` and so on"),
        ("", "1:1: should be a mapping: `name: ...` and so on"),
        ("llm: local\n", "1:1: needs name"),
        ("name: x\n", "1:1: needs stt, llm or a pipeline"),
        ("name: x\ntts: local\nstt: local\n", "1:1: has a tts and no llm whose words it would speak"),
        ("name: x\nllm: local\nname: y\n", "3:1: name: is here twice"),
        ("name: x\nllm: {model: a}\n",
         "2:6: llm: should say `service:`, one of local, openai, openai-responses"),
        ("name: x\nllm: {service: opnai}\n",
         "2:6: llm: opnai is no language model service; did you mean openai?"),
        ("name: x\npipeline: [VAD]\nstt: local\n",
         "1:1: has a pipeline and stt; put what they say into the pipeline"),
        ("name: x\nllm: []\n", "2:6: llm: needs a service"),
        ("name: x\npipeline: [UserContext, LLM: local, UserContext]\n",
         "1:1: UserContext is in the pipeline twice"),
        ("name: x\npipeline:\n  - Vad\n", "3:5: pipeline[0]: Vad is no part; did you mean VAD?"),
        ("name: x\npipeline:\n  - VAD: {start: 1}\n",
         "3:11: pipeline[0].VAD.start: unknown; did you mean start_ms?"),
        ("name: x\npipeline:\n  - {VAD: {}, Turn: {}}\n", "3:5: pipeline[0]: should be one part: "
         "`name: {options}`; indent its options below it"),
        ("name: x\npipeline: [{parallel: [[VAD], []]}]\n",
         "2:23: pipeline[0].parallel: needs a part in each branch"),
        ("name: x\npipeline: ['./none.py:Part']\n", "2:12: pipeline[0]: ./none.py cannot be imported: "
         "FileNotFoundError: no such file: {directory}/none.py"),
        ("name: x\npipeline: [json.JSONDecoder]\n", "2:12: pipeline[0]: JSONDecoder is no processor: "
         "neither bargein's nor Pipecat's"),
        ("name: x\npipeline:\n  - pipecat.processors.filters.frame_filter.FrameFilter: {typs: 1}\n",
         ".FrameFilter.typs: unknown; did you mean types?"),
        ("name: x\ncontext: {instructions: ${X}}\n", "inside brackets write '${NAME}', with quotes"),
        ("name: x\nllm: local\ntools: [os.path:joinn]\n",
         "3:9: tools[0]: os.path has no joinn; did you mean join?"),
        ("name: x\nllm: local\ntools: [os.path:join]\n", "3:9: tools[0]: "),
        ("name: x\nllm: local\ninclude: other.yaml\n", "3:10: include: {directory}/other.yaml: no such file"),
        ("name: x\nllm: local\ninclude: bot.yaml\n", "3:10: include: bot.yaml includes itself"),
        ("name: x\nstt: local\ngreeting: Hi.\n", "1:1: has a greeting and nothing that says it; add an llm"),
        ("name: x\nllm: local\ngreeting: ''\n", "3:11: greeting: String should have at least 1 character"),
        ("name: x\nllm: local\ngreeting: {txt: Hi.}\n", "3:12: greeting.txt: unknown; did you mean text?"),
        ("name: x\nllm: local\ntransport: [webrtc, webrtc: {}]\n", "1:1: names a transport twice"),
        ("name: x\nllm: local\ntransport: {webrtc: {ice_server: []}}\n",
         "3:22: transport.webrtc.ice_server: unknown; did you mean ice_servers?"),
        ("name: x\nllm: local\ntransport: {webrtc: {ice_servers: [http://x]}}\n",
         "3:36: transport.webrtc.ice_servers[0]: has a url that is not like stun:HOST:PORT"),
        ("name: x\nllm: local\ntransport: {webrtc: {ice_servers: turn:x.org}}\n",
         "transport.webrtc.ice_servers: needs username and credential, or secret"),
        ("name: x\nllm: local\nreport_calls: ful\n", "3:15: report_calls: cannot be ful; did you mean full?"),
        ("name: x\nllm: local\ntools: bargein.bots.receptionist:book\nreport_calls: {bok: full}\n",
         "1:1: report_calls: there is no tool bok; did you mean book?"),
        ("name: x\nllm: local\ndescription: ${OOPS\n", "3:14: description: `${` should be"),
        ("name: x\nllm: &a {services: [*a]}\n", "is nested too deeply"),
    ],
)  # fmt: skip
def test_one_mistake(write: Write, tmp_path: Path, text: str, told: str) -> None:
    found = problems(write(text))
    assert any(told.replace("{directory}", str(tmp_path)) in problem for problem in found), found


class TestVariables:
    def test_fill_in_and_keep_their_type(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOT_NAME", "Ada")
        monkeypatch.setenv("SESSIONS", "7")
        monkeypatch.delenv("IDLE", raising=False)
        path = write(
            "name: ${BOT_NAME}-$${X}\nllm: local\n"
            "limits: {max_sessions: '${SESSIONS}', idle_timeout_s: '${IDLE:-30}'}\n"
        )
        declaration = load_bot(path).declaration
        assert declaration.name == "Ada-${X}"
        assert declaration.limits.max_sessions == 7
        assert declaration.limits.idle_timeout_s == 30.0

    @pytest.mark.parametrize("variable", ["MY_API_KEY", "MODEL"])
    @pytest.mark.parametrize("text", ["llm: %s", "llm: {service: openai, model: %s}", "context: Say %s."])
    def test_with_a_key_are_refused_where_it_would_be_shown(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, text: str, variable: str
    ) -> None:
        key = SECRET if variable == "MODEL" else "any-text-that-is-a-key"
        monkeypatch.setenv(variable, key)
        found = "\n".join(problems(write("name: x\n" + text.replace("%s", f'"${{{variable}}}"'))))
        assert "takes a key from the environment" in found
        assert key not in found

    def test_must_be_set(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOWHERE", raising=False)
        path = write("name: x\nllm: local\ncontext: ${NOWHERE}\n")
        assert problems(path) == [
            "3:10: context: NOWHERE is not set; set it, or give a default: ${NOWHERE:-...}"
        ]


class TestKeys:
    @pytest.mark.parametrize(
        "line",
        [
            f"api_key: {SECRET}",
            "api_key: anything",
            "api_key: 12345",
            f"api_key: '${{KEY:-{SECRET}}}'",
            f"options: {{extra: {SECRET}}}",
            "options: {extra_headers: {Authorization: Bearer x}}",
        ],
    )
    def test_do_not_belong_into_files(self, write: Write, line: str) -> None:
        found = problems(write(f"name: x\nllm:\n  service: openai\n  {line}\n"))
        assert any("key" in problem and problem.startswith("4:") for problem in found), found
        assert SECRET not in str(found)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Pipecat's, about its own classes
    def test_come_from_the_environment_and_are_never_shown(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_KEY", SECRET)
        bot = load_bot(
            write(
                "name: x\npipeline:\n  - LLM: {service: openai, base_url: http://x, api_key: '${MY_KEY}'}\n"
                "  - pipecat.services.openai.tts.OpenAITTSService: {api_key: '${MY_KEY}'}\n"
            )
        )
        assert SECRET not in draw_text(bot)
        assert SECRET not in repr(bot.declaration)
        assert draw_text(bot).count("api_key") == 2


class TestInclude:
    def test_makes_a_variant(self, write: Write) -> None:
        write(
            "name: base\nstt: local\nllm: local\ntts: local\ncontext: {instructions: A, max_messages: 5}\n",
            "base.yaml",
        )
        declaration = load_bot(
            write("include: base.yaml\nname: variant\ntts: null\nstt: null\ncontext: {instructions: B}\n")
        ).declaration
        assert declaration.name == "variant"
        assert declaration.tts is None
        assert declaration.context.instructions == "B"
        assert declaration.context.max_messages == 5

    def test_mistakes_are_told_where_they_are(self, write: Write, tmp_path: Path) -> None:
        write("name: base\nllm: {service: openai, temprature: 1}\n", "base.yaml")
        path = write("include: [base.yaml]\nlimits: {max_session: 1}\n")
        assert problems(path) == [
            "2:10: limits.max_session: unknown; did you mean max_sessions?",
            f"{tmp_path}/base.yaml:2:24: llm.temprature: unknown; did you mean temperature?",
        ]

    @pytest.mark.parametrize(
        ("include", "told"),
        [
            ("bot.yaml", "bot.yaml includes itself"),
            ("other.yaml", "{directory}/other.yaml: no such file"),
            (".", "{directory} is a directory"),
        ],
    )
    def test_what_a_file_that_cannot_be_read_would_say_is_not_missed(
        self, write: Write, tmp_path: Path, include: str, told: str
    ) -> None:
        found = problems(write(f"include: {include}\nlimits: {{max_session: 1}}\n"))
        assert found == [
            f"1:10: include: {told.replace('{directory}', str(tmp_path))}",
            "2:10: limits.max_session: unknown; did you mean max_sessions?",
        ]


class TestNames:
    def test_of_shipped_bots(self) -> None:
        assert load_bot("assistant").name == "assistant"
        with pytest.raises(NoSuchBot, match="there is no bot asistant; did you mean assistant\\?"):
            load_bot("asistant")

    def test_of_files_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoSuchBot, match="no such file"):
            load_bot(tmp_path / "none.yaml")

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("a.yaml", "a.yaml is a directory"),
            (".", ". is a directory"),
            ("mine", "there is no bot mine; did you mean mine.yaml?"),
            ("house.py", "house.py:NAME would be the bot NAME in it"),
            ("nothing.py", "nothing.py: no such file"),
            ("./house.py:four", "./house.py has no four; there is no Bot in it"),
        ],
    )
    def test_that_are_nearly_right(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, told: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.yaml").mkdir()
        write("name: mine\nllm: local\n", "mine.yaml")
        write("def three() -> int:\n    return 3\n", "house.py")
        with pytest.raises(NoSuchBot) as caught:
            load_bot(name)
        assert str(caught.value) == told

    def test_of_bots_in_python(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(
            "from bargein.bots import Bot\nada = Bot(name='Ada', llm='local')\nx = 1\n", "my_bots.py"
        )
        monkeypatch.chdir(path.parent)
        assert load_bot("./my_bots.py:ada").name == "Ada"
        with pytest.raises(NoSuchBot, match=r"has no adda; did you mean ada\?"):
            load_bot("./my_bots.py:adda")
        with pytest.raises(NoSuchBot, match="is no Bot but int"):
            load_bot("./my_bots.py:x")


class TestSchema:
    def test_is_in_step(self) -> None:
        assert json.loads(FILE.read_text()) == json_schema(), "run: python -m bargein.bots.schema"

    def test_is_one(self) -> None:
        jsonschema.Draft202012Validator.check_schema(json_schema())

    @pytest.mark.parametrize("name", shipped_bots())
    def test_takes_the_shipped_bots(self, name: str) -> None:
        jsonschema.validate(yaml.safe_load(shipped_bots()[name].read_text()), json_schema())

    @pytest.mark.parametrize(
        "said",
        [
            {"interruption": ["Critical", {"MinimumWords": {"count": 2}}, {"SpeechOnly": "defaults"}]},
            {"interruption": {"speaking": ["./my.py:Policy"], "resume": None, "duck": 0.2}},
            {"llm": {"services": ["openai", "local"], "max_steps": 2}},
            {"llm": {"service": "openai", "model": "m", "base_url": "http://localhost/v1"}},
            {"greeting": "Hi.", "report_calls": "full"},
            {"greeting": {"text": "Hi.", "critical": True}, "report_calls": {"*": "none", "book": "full"}},
            {"transport": ["phone", {"webrtc": {"ice_servers": ["stun:a.org", {"url": "turn:b.org"}]}}]},
            {"transport": "webrtc"},
            {"pipeline": ["VAD", {"Turn": {"silence_ms": 800}}, {"parallel": [["LLM"], ["a.b.C"]]}]},
            {"pipeline": [{"./my.py:Shout": {"anything": 1}}, {"STT": ["openai", "local"]}, {"VAD": None}]},
        ],
    )
    def test_takes_what_is_right(self, said: dict[str, Any]) -> None:
        jsonschema.validate({"name": "x", **said}, json_schema())

    @pytest.mark.parametrize(
        "said",
        [
            {"interuption": []},
            {"interruption": ["Critica"]},
            {"interruption": [{"MinimumWords": {"cuont": 2}}]},
            {"llm": "opnai"},
            {"llm": {"service": "openai", "modle": "m"}},
            {"llm": {"model": "m"}},
            {"pipeline": ["Vad"]},
            {"pipeline": [{"VAD": {"start": 1}}]},
            {"pipeline": [{"VAD": {}, "Turn": {}}]},
            {"limits": {"max_sessions": 0}},
            {"greeting": ""},
            {"report_calls": "all"},
            {"transport": [{"webrtc": {"ice_server": []}}]},
            {"tools": ["book"]},
        ],
    )
    def test_refuses_what_is_wrong(self, said: dict[str, Any]) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "x", **said}, json_schema())

    def test_describes_the_options_of_every_policy(self) -> None:
        definitions = json_schema()["$defs"]
        known = definitions["policy"]["anyOf"][-1]["properties"]
        assert set(known) == set(MODELS)
        ours = {type(thing).__name__ for thing in policies.while_speaking() + policies.while_thinking()}
        assert ours <= set(known)
        assert definitions["MinimumWords"]["properties"]["count"]["type"] == "integer"
        assert definitions["Backchannel"]["properties"]["answer_s"]["description"]


def test_python_is_told_all_mistakes_too() -> None:
    with pytest.raises(BadBot) as caught:
        Bot(name="x", llm={"service": "openai", "modle": "m"}, tools=["json:dump", 5], pipeline=None, stt="x")  # type: ignore[list-item]
    assert [str(p) for p in caught.value.problems] == [
        "stt: x is no speech recognition service; it can be local, openai, openai-realtime, cartesia",
        "llm.modle: unknown; did you mean model?",
        "tools[0]: dump: give the parameter obj a type hint",
        "tools[1]: should be a function: `module:function` or `./file.py:function`",
    ]
