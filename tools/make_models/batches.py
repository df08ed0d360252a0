"""Documents packed into rows of equal length, and batches drawn from them."""

import dataclasses

import torch
from tokenizers import Tokenizer

from grammars.mixture import documents
from text import SPECIALS, encode_documents

CHUNK = 2000
SHORT = 192
NUM_SPECIALS = len(SPECIALS)


@dataclasses.dataclass
class Rows:
    """Packed rows. Shapes: ids [N, T + 1] int16, weights [N, T + 1] float16."""

    ids: torch.Tensor
    weights: torch.Tensor

    def shuffled(self, seed: int) -> "Rows":
        order = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(seed))
        return Rows(self.ids[order], self.weights[order])

    def batch(self, index: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `index`-th batch of `size` rows, round and round."""
        picked = (torch.arange(size) + index * size) % len(self.ids)
        return self.ids[picked].long(), self.weights[picked].float()


def pack(encoded, length: int) -> Rows:
    """Fills each row with documents from its start; what does not fit the last is cut off.

    Every row begins with a document, so that the begin token stands at position 0 as in use.
    """
    all_ids, all_weights, ids, weights = [], [], [], []
    for document_ids, document_weights in encoded:
        ids += document_ids
        weights += document_weights
        if len(ids) > length:
            all_ids.append(torch.tensor(ids[: length + 1], dtype=torch.int16))
            all_weights.append(torch.tensor(weights[: length + 1], dtype=torch.float16))
            ids, weights = [], []
    return Rows(torch.stack(all_ids), torch.stack(all_weights))


def encoded_documents(tokenizer: Tokenizer, seed: int, count: int, held_out=False, long=False):
    """Yields (ids, weights) of generated documents."""
    chunk = []
    for document in documents(seed, count, held_out, long):
        chunk.append(document)
        if len(chunk) == CHUNK:
            yield from encode_documents(tokenizer, chunk)
            chunk = []
    yield from encode_documents(tokenizer, chunk)


def repeats(count: int, length: int, vocab_size: int, seed: int) -> Rows:
    """Rows of a random piece said again and again; what is counted is every time but the first.

    Nothing but looking back predicts them. A few of them early on teach a model to copy names and
    numbers from its prompt, which text alone teaches only after many more tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.empty(count, length + 1, dtype=torch.int16)
    weights = torch.ones(count, length + 1, dtype=torch.float16)
    for row in range(count):
        size = int(torch.randint(4, 48, (), generator=generator))
        piece = torch.randint(NUM_SPECIALS, vocab_size, (size,), generator=generator)
        ids[row] = piece.repeat(length // size + 1)[: length + 1].to(torch.int16)
        weights[row, :size] = 0.0
    return Rows(ids, weights)


@dataclasses.dataclass
class TrainingRows:
    """Short rows for most steps, rows of the full context for some, repeats for the early ones."""

    short: Rows
    long: Rows
    repeats: Rows


def training_rows(tokenizer: Tokenizer, seed: int, num_documents: int, context: int) -> TrainingRows:
    short = pack(encoded_documents(tokenizer, seed, num_documents), SHORT)
    # Half of the long rows are long conversations, half are packed short texts.
    talks = pack(encoded_documents(tokenizer, seed + 1, num_documents // 40, long=True), context - 1)
    texts = pack(encoded_documents(tokenizer, seed + 2, len(talks.ids) * context // 80), context - 1)
    count = min(len(talks.ids), len(texts.ids))

    def interleave(a, b):
        return torch.stack((a[:count], b[:count]), dim=1).flatten(0, 1)

    long = Rows(interleave(talks.ids, texts.ids), interleave(talks.weights, texts.weights))
    return TrainingRows(short, long, repeats(4000, SHORT, tokenizer.get_vocab_size(), seed))
