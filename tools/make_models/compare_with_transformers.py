"""Checks a made folder against transformers: same logits, same ids, same chat text. By hand.

    python3 tools/make_models/compare_with_transformers.py models/demo-target models/demo-draft

Needs the package `transformers`, which nothing else here does.
"""

import pathlib
import sys

import torch
import transformers

from folder import read_model
from text import prompt_ids

TEXTS = ("Once upon a time, there was a little fox named Mia.", "Add 27 and 45.", "Grüße, 東京! \U0001f98a\n\n  x")


def compare(folder: pathlib.Path) -> None:
    ours = read_model(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id, "no begin token"
        assert tokenizer.decode(ids, skip_special_tokens=True) == text, "text changes on its way"
        chat = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        rendered_ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        assert rendered_ids == prompt_ids(tokenizer.backend_tokenizer, "chat", [text]), "chat template differs"
    ids = torch.randint(0, ours.shape.vocab_size, (1, ours.shape.max_positions),
                        generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        output = theirs(ids, output_hidden_states=True)
        hidden, exit_state = ours.hidden_states(ids)
        gap = (output.logits - ours.logits(hidden)).abs().max().item()
        exit_gap = 0.0
        if exit_state is not None:
            wanted = theirs.lm_head(theirs.model.norm(output.hidden_states[ours.shape.early_exit_layer]))
            exit_gap = (wanted - ours.logits(exit_state)).abs().max().item()
    scale = output.logits.std().item()
    print(f"{folder}: largest gap {gap:.2e}, at the exit {exit_gap:.2e}, logits' deviation {scale:.2f}")
    assert max(gap, exit_gap) < 1e-3 * scale, "logits differ"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        compare(pathlib.Path(argument))
