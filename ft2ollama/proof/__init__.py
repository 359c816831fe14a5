"""Does the server run what was trained? Four proofs, over the files of trainer and exporter.

1. Prompt (`cases`, `prompts`): the server's prompt is the one of training, for every conversation.
2. Weights (proof_weights.py): the file is base + adapter, and the server stores that file.
3. Replies (`replies`): greedy replies are the trained model's, end where they end, and are clean.
4. Effect (`effect`): Ollama writes what was taught where the base writes something else.

`result` puts them together, `report` writes them down. The prompt and reply proofs need a server, a
model's name and what training says, nothing of a run:

    prompts = expected_prompts(template, tokenizer, proof_cases(capabilities(gotmpl)))
    prove_prompts(server, model, prompts, decode=...)
    check_replies(server, model, replies, make_speech(gotmpl, tokenizer.special))
"""

from ft2ollama.proof.cases import (
    Prompt,
    capabilities,
    expected_prompts,
    proof_cases,
    read_prompt,
)
from ft2ollama.proof.effect import EffectCheck, prove_effect, served_base
from ft2ollama.proof.prompts import PromptCheck, Tick, prove_prompts
from ft2ollama.proof.replies import (
    AGREEMENT,
    ReplyCheck,
    Speech,
    check_replies,
    compare_reply,
    make_speech,
)
from ft2ollama.proof.report import write_report
from ft2ollama.proof.result import Line, Proof

__all__ = [
    "AGREEMENT",
    "EffectCheck",
    "Line",
    "Prompt",
    "PromptCheck",
    "Proof",
    "ReplyCheck",
    "Speech",
    "Tick",
    "capabilities",
    "check_replies",
    "compare_reply",
    "expected_prompts",
    "make_speech",
    "proof_cases",
    "prove_effect",
    "prove_prompts",
    "read_prompt",
    "served_base",
    "write_report",
]
