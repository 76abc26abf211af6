"""Barge-in: what the user says over the bot, held, judged, and let through to the rest of the bot or not."""

from __future__ import annotations

import asyncio
import contextvars

import numpy as np
import soxr
from loguru import logger
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    UserBackchannelFrame,
)

from ..pipeline import DOWNSTREAM, Level, Processor, SpeechInterruptedFrame, handles
from ..pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    FrameDirection,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    SpeechHoldFrame,
    SpeechOnlyInterruptionFrame,
    SpeechReleaseFrame,
    SpeechResumedFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserPausedFrame,
    UserResumedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from .deciding import Bot, Decider, Decision, Phase, Verdict
from .loudness import Loudness
from .policies import BACKCHANNEL, BACKGROUND, MUTED, NOISE, Policies
from .steadiness import RATE, Steadiness
from .stt import Transcriber
from .vad import PAUSE_MS, PossibleSpeechFrame

# Words that did not count do after all when the user speaks on and interrupts within this time, s.
SPEAKS_ON_S = 2.0

# A stretch of speech up to this length is read again, s, with less of what was heard before than at first,
# and played a little faster and slower: what a recogniser makes of a hum or a mumble depends on all that,
# a word stays the same. Of 129 acknowledgements in six synthesised voices one reading tells 0.81, these three
# 0.89; of 251 other short words they mistake the same 0.016.
AGAIN_S = 0.9
LEAD_S = 0.2
SPEEDS = (0.94, 1.08)

# Characters a second of speech, for how much is left to say: 150 words of English a minute.
CHARACTERS_PER_S = 15


class BargeIn(Processor):
    """Decides what the user's speech does to the bot, and carries it out.

    Put it behind the STT. While nobody knows yet whether speech over the bot counts, no frame of that turn
    passes. If it counts all of them follow, in order. If it does not they are dropped, and nothing is
    answered; of a backchannel a UserBackchannelFrame goes on. The report of an interruption counts its
    milliseconds from the onset of the speech.

    Args:
        policies: What interrupts, what does not.
        second: Reads short speech over the bot again, so that what is misheard interrupts nothing. It may
            be the STT's own recogniser.
        duck: While it is undecided, play the voice at this gain (0 to 1) instead of holding it.

    Attributes:
        duck: As above; may be changed at any time.
    """

    def __init__(
        self, policies: Policies | None = None, *, second: Transcriber | None = None, duck: float = 0.0
    ) -> None:
        self.decider = Decider((), ())
        self.policies = policies or Policies()
        self.duck = duck
        self._loudness = Loudness()
        self._steadiness = Steadiness()
        self._second = second
        self._recent = bytearray()  # what further readings may need of the user's audio
        self._reading: asyncio.Task[None] | None = None  # again
        # Of the user's turn.
        self._in_turn = False
        self._counts = False  # some of it does, so all of it does
        self._has_words = False
        self._withheld: list[Frame] = []  # its frames, until it counts
        self._ignored = ""  # why the last stretch of it did not count
        self._end: UserStoppedSpeakingFrame | None = None  # it is over, and undecided
        # What was said in turns that did not count, and when each was over.
        self._dropped: list[tuple[float, TranscriptionFrame]] = []
        # Of the bot.
        self._speaking_since: float | None = None
        self._replies = 0  # said to their end
        # Words went to the model after so many answers; until the next begins it is on its way.
        self._asked_after: int | None = None
        self._tools: set[str] = set()  # ids of running calls
        self._unheard = ""  # what the last full interruption cut off
        self._timer: asyncio.TimerHandle | None = None

    @property
    def policies(self) -> Policies:
        """What interrupts, what does not; new ones hold at once, for what is undecided too."""
        return self._policies

    @policies.setter
    def policies(self, policies: Policies) -> None:
        self._policies = policies
        resume_s = policies.resume.after_ms / 1000 if policies.resume else None
        self.decider.use(policies.speaking, policies.thinking, resume_s)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # The user --------------------------------------------------------------------------------------

    @handles(InputAudioRawFrame)
    def listen(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        self._loudness.hear(frame.audio, frame.sample_rate)
        if frame.sample_rate == RATE:
            self._steadiness.hear(frame.audio)
            self._recent += frame.audio
            longest_s = AGAIN_S + LEAD_S + PAUSE_MS / 1000
            del self._recent[: -2 * int(longest_s * RATE)]
        self.push(frame, direction)

    @handles(PossibleSpeechFrame)
    def speech_possible(self, frame: PossibleSpeechFrame) -> None:
        self._note_stretch()
        now = self._update()
        self._act(self.decider.speech_possible(now, now - frame.start_secs))

    @handles(
        VADUserStartedSpeakingFrame,
        UserStartedSpeakingFrame,
        UserPausedFrame,
        UserResumedFrame,
        VADUserStoppedSpeakingFrame,
        InterimTranscriptionFrame,
        TranscriptionFrame,
    )
    def user(self, frame: Frame, direction: FrameDirection) -> None:
        if direction is not DOWNSTREAM:
            self.push(frame, direction)
            return
        if isinstance(frame, VADUserStartedSpeakingFrame) and self._end is not None:
            self._end_turn(self._end)  # the turn before did not count, in the end
        self._in_turn = True
        self._withheld.append(frame)
        self._act(self._tell(frame))

    @handles(UserStoppedSpeakingFrame)
    def turn_ended(self, frame: UserStoppedSpeakingFrame, direction: FrameDirection) -> None:
        if direction is not DOWNSTREAM:
            self.push(frame, direction)
            return
        self._end = frame
        self._end_turn(self._take_end())

    # The bot ---------------------------------------------------------------------------------------

    @handles(BotStartedSpeakingFrame)
    def bot_started(self, frame: BotStartedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking_since = asyncio.get_running_loop().time()
        self.push(frame, direction)
        self._bot_changed()

    @handles(BotStoppedSpeakingFrame)
    def bot_stopped(self, frame: BotStoppedSpeakingFrame, direction: FrameDirection) -> None:
        self._speaking_since = None
        self._replies += not self.session.responding  # else it pauses, waiting for a tool
        self.push(frame, direction)
        self._bot_changed()

    @handles(FunctionCallsStartedFrame)
    def tools_started(self, frame: FunctionCallsStartedFrame, direction: FrameDirection) -> None:
        self._tools |= {call.tool_call_id for call in frame.function_calls}
        self.push(frame, direction)

    @handles(FunctionCallResultFrame, FunctionCallCancelFrame)
    def tool_ended(
        self, frame: FunctionCallResultFrame | FunctionCallCancelFrame, direction: FrameDirection
    ) -> None:
        self._tools.discard(frame.tool_call_id)
        self.push(frame, direction)

    @handles(InterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        if isinstance(frame, InterruptionFrame):
            self._asked_after = None
        self.decider.interrupted()

    @handles(SpeechInterruptedFrame)
    def report(self, frame: SpeechInterruptedFrame) -> None:
        # Not pushed on: the session tells every processor.
        if frame.level is Level.FULL:
            self._unheard = frame.unheard

    # Deciding --------------------------------------------------------------------------------------

    def _note_stretch(self) -> None:
        if self.decider.between:
            self._loudness.begin()
            self._steadiness.begin()

    def _tell(self, frame: Frame) -> list[Decision]:
        now, decider = self._update(), self.decider
        match frame:
            case VADUserStartedSpeakingFrame():
                self._note_stretch()
                return decider.speech_began(now, now - frame.start_secs)
            case UserPausedFrame():
                since = now - PAUSE_MS / 1000
                return decider.paused(now, since, readings=self._readings(now, since))
            case UserResumedFrame():
                return decider.resumed(now)
            case VADUserStoppedSpeakingFrame():
                return decider.speech_stopped(now)
            case TranscriptionFrame() | InterimTranscriptionFrame():
                self._has_words = True
                return decider.heard(now, frame.text)
        return []

    def _readings(self, now: float, until: float) -> int:
        """Begin to read again what was said up to a pause, if it is short and undecided; how many times."""
        if self._reading is not None:
            self._reading.cancel()
        decider = self.decider
        if self._second is None or not decider.undecided or until - decider.onset > AGAIN_S:
            return 0
        seconds = now - decider.onset + LEAD_S
        pcm = bytes(self._recent[-2 * int(seconds * RATE) :])
        self._reading = self.spawn(self._read_again(self._second, pcm), f"{self.name}.second")
        return len(SPEEDS)

    async def _read_again(self, second: Transcriber, pcm: bytes) -> None:
        for speed in SPEEDS:
            utterance = second.open(lambda _: None)
            utterance.feed(_at_speed(pcm, speed))
            try:
                text = await utterance.snapshot()
            finally:
                utterance.cancel()
            self._act(self.decider.read_again(self._update(), text.strip()))

    def _bot_changed(self) -> None:
        self._act(self.decider.bot_changed(self._update()))

    def _tick(self) -> None:
        self._timer = None
        self._act(self.decider.tick(self._update()))

    def _update(self) -> float:
        """Tell the decider how things are; returns the time."""
        now = asyncio.get_running_loop().time()
        responses = self.session.responses
        asked = self._asked_after == self.session.response_count
        phase = Phase.THINKING if responses or asked else Phase.IDLE
        if self._speaking_since is not None:
            phase = Phase.SPEAKING
        rest_s = None
        if responses and all(response.complete for response in responses):
            rest_s = sum(len(response.unheard) for response in responses) / CHARACTERS_PER_S
        self.decider.bot = Bot(
            phase=phase,
            spoken_s=now - self._speaking_since if self._speaking_since is not None else 0.0,
            rest_s=rest_s,
            critical=bool(responses) and not responses[0].interruptible,
            tool_running=bool(self._tools),
            replies=self._replies,
        )
        self.decider.level_db = self._loudness.beside_usual_db
        self.decider.change = self._steadiness.change if self.decider.listening else None
        return now

    def _act(self, decisions: list[Decision]) -> None:
        onset, counted, end = self.decider.onset, self._take_counted(), self._take_end()
        for decision in decisions:
            logger.debug("{}: {} ({})", self.name, decision.verdict, decision.reason)
            match decision.verdict:
                case Verdict.HOLD:
                    self.push(SpeechHoldFrame(gain=self.duck))
                case Verdict.RELEASE:
                    self.push(SpeechReleaseFrame(decision.reason))
                case Verdict.SPEECH:
                    self.session.interrupt_speech(decision.reason, cause=onset)
                case Verdict.FULL:
                    self.session.interrupt(decision.reason, cause=onset)
                case Verdict.IGNORE:
                    self._ignored = decision.reason
                case Verdict.RESUME:
                    self._go_on(decision.reason)
        for frame in counted:
            self.push(frame)
        self._end_turn(end)
        self._schedule()

    def _take_end(self) -> UserStoppedSpeakingFrame | None:
        """The end of the turn, if it is over and decided."""
        end = self._end
        if end is None or (self.decider.undecided and not self._counts):
            return None
        self._end = None
        return end

    def _end_turn(self, frame: UserStoppedSpeakingFrame | None) -> None:
        """Let the end of the turn pass, or drop all of it."""
        if frame is None:
            return
        answers = self.session.response_count
        if self._counts or not self._withheld:
            self.push(frame)
        else:
            self._drop()
        if self._counts and self._has_words:
            self._asked_after = answers
            self._loudness.learn()
        self._in_turn = self._counts = self._has_words = False
        self._end = None

    def _take_counted(self) -> list[Frame]:
        """If the turn counts: all that was withheld, and what was said just before it."""
        self._counts = self._counts or (self._in_turn and self.decider.counts)
        if not self._counts:
            return []
        frames = [*(frame for _, frame in self._dropped_lately()), *self._withheld]
        self._dropped, self._withheld = [], []
        return frames

    def _drop(self) -> None:
        """The turn is over and did not count."""
        now = asyncio.get_running_loop().time()
        self._dropped = self._dropped_lately()
        for frame in self._withheld:
            if not isinstance(frame, TranscriptionFrame):
                continue
            if self._ignored == BACKCHANNEL:
                self.push(UserBackchannelFrame(frame.text, frame.user_id, frame.timestamp))
            if self._ignored not in (BACKGROUND, MUTED, NOISE):
                self._dropped.append((now, frame))
        self._withheld = []

    def _dropped_lately(self) -> list[tuple[float, TranscriptionFrame]]:
        lately = asyncio.get_running_loop().time() - SPEAKS_ON_S
        return [(time, frame) for time, frame in self._dropped if time >= lately]

    def _go_on(self, reason: str) -> None:
        resume = self.policies.resume
        if resume is not None and self._unheard.strip():
            self.push(SpeechResumedFrame(reason))
            self.push(TTSSpeakFrame(resume.prefix + self._unheard.lstrip()))
            self._unheard = ""

    def _schedule(self) -> None:
        deadline = self.decider.deadline
        if self._timer is not None and (deadline is None or deadline < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and deadline is not None:
            # In a context of its own: it works for no answer, and no interruption makes it stale.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(deadline, self._tick, context=contextvars.Context())


def _at_speed(pcm: bytes, speed: float) -> bytes:
    """The same so much faster, and higher."""
    samples = np.frombuffer(pcm, np.int16)
    return np.asarray(soxr.resample(samples, RATE * speed, RATE), np.int16).tobytes()
