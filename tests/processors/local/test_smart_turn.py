import asyncio

import pytest

from bargein.processors.local import SmartTurn

from .conftest import Run, recording

pytestmark = pytest.mark.local_models


def test_tells_complete_from_cut(run: Run, sentence: bytes) -> None:
    async def verdicts() -> tuple[float, float]:
        turn = SmartTurn()
        await turn.start()
        return await turn.probability(sentence), await turn.probability(sentence[: len(sentence) // 2])

    complete, cut = run(verdicts())
    assert complete > 0.8
    assert cut < 0.5


def test_only_the_last_eight_seconds_count(run: Run, jfk: bytes) -> None:
    async def verdicts() -> tuple[float, float]:
        turn = SmartTurn()
        return await turn.probability(jfk), await turn.probability(jfk[-8 * 32_000 :])

    whole, last = run(verdicts())
    assert whole == last


def test_verdicts_at_the_same_time(run: Run, sentence: bytes) -> None:
    other = recording("sense_and_sensibility_01_austen_64kb-0870.wav")

    async def verdicts() -> tuple[list[float], list[float]]:
        one_by_one = [await SmartTurn().probability(pcm) for pcm in (sentence, other)]
        at_once = await asyncio.gather(*(SmartTurn().probability(pcm) for pcm in (sentence, other)))
        return one_by_one, at_once

    one_by_one, at_once = run(verdicts())
    assert at_once == one_by_one
