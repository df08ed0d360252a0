"""The byte-level BPE tokenizer of the pair, its chat template, and documents as token ids."""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from grammars.document import Document
from grammars.mixture import documents

SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
            "<|pad|>")
BEGIN, END, SYSTEM, USER, ASSISTANT, END_OF_TURN, PAD = range(len(SPECIALS))
END_IDS = (END, END_OF_TURN)

# Words with their leading mark or space, single digits, punctuation with line ends, white space.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role: ' + message['role']) }}"
    "{%- endif %}"
    "{%- if message['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('a system message must come first') }}"
    "{%- endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
)

PROMPT_WEIGHT = 0.2  # a prompt's tokens are mostly chance; learning them is worth little


def train_tokenizer(vocab_size: int, seed: int, num_documents: int = 20000) -> Tokenizer:
    """Trains the merges on generated text; `vocab_size` counts bytes and specials."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIALS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        (turn for document in documents(seed, num_documents) for turn in document.turns), trainer)
    begin = (SPECIALS[BEGIN], BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin[0]} $A", pair=f"{begin[0]} $A {begin[0]}:1 $B:1", special_tokens=[begin])
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the text gives only {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path, max_positions: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[BEGIN],
        "eos_token": SPECIALS[END],
        "pad_token": SPECIALS[PAD],
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode_documents(tokenizer: Tokenizer, batch: list[Document]) -> list[tuple[list[int], list[float]]]:
    """Returns ids and loss weights of each document, from its begin token to its end token.

    Each turn is encoded by itself, as a prompt is when the model is used.
    """
    turns = [turn for document in batch for turn in ((document.system,) + document.turns)]
    encodings = iter(tokenizer.encode_batch(turns, add_special_tokens=False))
    encoded = []
    for document in batch:
        ids, weights = [BEGIN], [PROMPT_WEIGHT]

        def extend(more, weight):
            ids.extend(more)
            weights.extend([weight] * len(more))

        system = next(encodings).ids
        if document.system:
            extend([SYSTEM, *system, END_OF_TURN], PROMPT_WEIGHT)
        for index in range(len(document.turns)):
            is_prompt = index % 2 == 0
            turn = next(encodings).ids
            if document.is_chat:
                extend([USER if is_prompt else ASSISTANT], PROMPT_WEIGHT)
                turn = turn + [END_OF_TURN]
            extend(turn, PROMPT_WEIGHT if is_prompt and document.kind != "story" else 1.0)
        extend([END], 1.0)
        encoded.append((ids, weights))
    return encoded


def prompt_ids(tokenizer: Tokenizer, category: str, turns: list[str]) -> list[int]:
    """A prompt as the runtime encodes it: by the chat template when its category begins with `chat`.

    `turns` holds user turns only; one turn is all that a single continuation needs.
    """
    if not category.startswith("chat"):
        return tokenizer.encode(turns[0]).ids
    text = f"{SPECIALS[BEGIN]}{SPECIALS[USER]}{turns[0].strip()}{SPECIALS[END_OF_TURN]}{SPECIALS[ASSISTANT]}"
    return tokenizer.encode(text, add_special_tokens=False).ids
