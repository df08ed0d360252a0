"""A small Llama in PyTorch whose parameter names are those of Hugging Face checkpoints.

It is written for training tiny models on a CPU: few, large operations. It is not a general
implementation: no biases, no RoPE scaling, a tied head.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class LlamaShape:
    """Everything that fixes a model's tensors. `early_exit_layer` 0 means: no exit is trained."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    head_dim: int = 32
    max_positions: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    early_exit_layer: int = 0


class RmsNorm(nn.Module):
    """Root-mean-square norm with a learned gain."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def _linear(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features, bias=False)
    nn.init.normal_(layer.weight, std=in_features**-0.5)
    return layer


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE over halves, as Hugging Face's Llama. x: [B, H, T, D]; cos, sin: [T, D / 2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention, with an optional cache for generation."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.q_proj = _linear(shape.hidden_size, shape.num_heads * shape.head_dim)
        self.k_proj = _linear(shape.hidden_size, shape.num_kv_heads * shape.head_dim)
        self.v_proj = _linear(shape.hidden_size, shape.num_kv_heads * shape.head_dim)
        self.o_proj = _linear(shape.num_heads * shape.head_dim, shape.hidden_size)
        nn.init.zeros_(self.o_proj.weight)

    def project(self, x, cos, sin):
        """Returns rotated queries and keys, and values. Shapes: [B, H, T, D], [B, H_kv, T, D] twice."""
        shape = self.shape
        batch, length, _ = x.shape
        fused = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        heads = F.linear(x, fused).view(batch, length, -1, shape.head_dim).transpose(1, 2)
        q, k, v = heads.split((shape.num_heads, shape.num_kv_heads, shape.num_kv_heads), dim=1)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    def forward(self, x, cos, sin, cache):
        shape = self.shape
        batch, length, _ = x.shape
        q, k, v = self.project(x, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        group = shape.num_heads // shape.num_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        causal = k.shape[2] == length and length > 1
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.gate_proj = _linear(shape.hidden_size, shape.intermediate_size)
        self.up_proj = _linear(shape.hidden_size, shape.intermediate_size)
        self.down_proj = _linear(shape.intermediate_size, shape.hidden_size)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fused = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = F.linear(x, fused).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.norm_eps)
        self.mlp = GatedMlp(shape)

    def forward(self, x, cos, sin, cache):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LayerCache:
    """Keys and values of one layer, grown by each call. Shapes: [B, H_kv, T, D]."""

    def __init__(self):
        self.keys = self.values = None

    def append(self, keys, values):
        if self.keys is not None:
            keys = torch.cat((self.keys, keys), dim=2)
            values = torch.cat((self.values, values), dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Trunk(nn.Module):
    """Embedding, layers and final norm: the part below the head, named `model` by Hugging Face."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        # Rows of about unit size keep a token's identity visible beside what the layers add; the
        # final norm's small gain keeps the tied head's first logits small all the same.
        nn.init.normal_(self.embed_tokens.weight, std=0.7)
        # A part that all tokens share lets a head attend by position alone, as the first step of
        # copying must; the softmax after the tied head does not see it.
        nn.init.constant_(self.embed_tokens.weight[:, 0], 4.0)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.norm_eps)
        nn.init.constant_(self.norm.weight, 0.08)


class Llama(nn.Module):
    """The whole model; the head is the embedding (tied)."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        half = shape.head_dim // 2
        frequencies = shape.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.outer(torch.arange(shape.max_positions, dtype=torch.float32), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def hidden_states(self, ids, caches=None):
        """Returns normed hidden states after the last layer and after `early_exit_layer` (or None).

        Shapes: ids [B, T] -> [B, T, hidden] each. `caches` holds one LayerCache a layer.
        """
        begin = 0 if caches is None or caches[0].keys is None else caches[0].keys.shape[2]
        cos = self.cos[begin : begin + ids.shape[1]]
        sin = self.sin[begin : begin + ids.shape[1]]
        x = self.model.embed_tokens(ids)
        exit_state = None
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, caches[index] if caches is not None else None)
            if index + 1 == self.shape.early_exit_layer:
                exit_state = self.model.norm(x)
        return self.model.norm(x), exit_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Applies the tied head. Shapes: [..., hidden] -> [..., V]."""
        return F.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.logits(self.hidden_states(ids)[0])

    @torch.no_grad()
    def generate_greedy(self, prompts: list[list[int]], num_tokens: int, end_ids, ended_share: float = 1.0):
        """Continues prompts by their best tokens; stops once `ended_share` of the rows have ended.

        Prompts of different lengths share a batch without padding: a row's own prompt is forced
        upon it for as long as it lasts. Returns a list of ids for each row, prompt included, cut
        after its end token.
        """
        lengths = [len(prompt) for prompt in prompts]
        shortest, longest = min(lengths), max(lengths)
        device = self.cos.device
        forced = torch.full((len(prompts), longest), -1, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            forced[row, : len(prompt)] = torch.tensor(prompt)
        forced = forced.to(device)
        caches = [LayerCache() for _ in self.model.layers]
        ends = torch.tensor(list(end_ids), dtype=torch.long, device=device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        ids = step = forced[:, :shortest]
        while ids.shape[1] < min(longest + num_tokens, self.shape.max_positions):
            hidden, _ = self.hidden_states(step, caches)
            step = self.logits(hidden[:, -1]).argmax(dim=-1, keepdim=True)
            if (position := ids.shape[1]) < longest:
                given = forced[:, position : position + 1]
                step = torch.where(given >= 0, given, step)
                ended |= torch.isin(step[:, 0], ends) & (given[:, 0] < 0)
            else:
                ended |= torch.isin(step[:, 0], ends)
            ids = torch.cat((ids, step), dim=1)
            if ended.float().mean() >= ended_share:
                break
        return [_cut_after_end(row, length, end_ids) for row, length in zip(ids.tolist(), lengths)]


def _cut_after_end(row: list[int], prompt_length: int, end_ids) -> list[int]:
    for position in range(prompt_length, len(row)):
        if row[position] in end_ids:
            return row[: position + 1]
    return row


def grow(small: Llama, shape: LlamaShape, places: tuple[int, ...]) -> Llama:
    """Returns a deeper model that computes what `small` does: its layers go to `places`.

    A new layer adds nothing until it is trained, for its two output matrices begin as zero.
    """
    grown = Llama(shape)
    grown.model.embed_tokens.load_state_dict(small.model.embed_tokens.state_dict())
    grown.model.norm.load_state_dict(small.model.norm.state_dict())
    for place, layer in zip(places, small.model.layers, strict=True):
        grown.model.layers[place].load_state_dict(layer.state_dict())
    return grown


def shrink(large: Llama, shape: LlamaShape, places: tuple[int, ...]) -> Llama:
    """Returns a shallower model of some of `large`'s layers: a start for a draft, to be trained."""
    small = Llama(shape)
    small.model.embed_tokens.load_state_dict(large.model.embed_tokens.state_dict())
    small.model.norm.load_state_dict(large.model.norm.state_dict())
    for layer, place in zip(small.model.layers, places, strict=True):
        layer.load_state_dict(large.model.layers[place].state_dict())
    return small


def round_to_bfloat16(model: Llama) -> Llama:
    """Rounds the weights in place to what bf16 files hold; arithmetic stays in float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())
    return model
