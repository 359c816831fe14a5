"""Questions in the background, put to the real small model in a real Ollama."""

from __future__ import annotations

import time

import pytest

from ft2ollama.errors import UserError
from ft2ollama.evaluate import Question, ask
from ft2ollama.interview import Interview
from ft2ollama.ollama_api import Ollama

QUESTIONS = [
    Question("What is the capital of France?", ("Paris",)),
    Question("Say the word yes.", ("yes",)),
    Question("What is 2+2?", ("4",)),
]
pytestmark = pytest.mark.ollama


def test_the_answers_are_those_of_asking_directly(ollama: Ollama, smol: str) -> None:
    asked, seen = Interview(ollama, smol, QUESTIONS), []
    time.sleep(0.1)  # this thread is free meanwhile
    answers = asked.answers(lambda done, of: seen.append((done, of)))
    assert answers == ask(ollama, smol, QUESTIONS)
    assert seen[-1] == (3, 3)
    assert asked.seconds > 0
    assert asked.answers() == answers  # again, without asking again


def test_a_stopped_interview_asks_no_further_question(ollama: Ollama, smol: str) -> None:
    asked = Interview(ollama, smol, QUESTIONS * 200)
    time.sleep(0.1)
    asked.stop()
    began = time.monotonic()
    assert asked.answers() == []
    assert time.monotonic() - began < 1


def test_what_fails_in_the_background_is_raised_where_somebody_waits(ollama: Ollama) -> None:
    asked = Interview(ollama, "no-such-model", QUESTIONS)
    with pytest.raises(UserError, match="no-such-model"):
        asked.answers()
    asked.stop()
