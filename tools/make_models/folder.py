"""Model folders in the Hugging Face layout: writing and reading them."""

import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

from llama import Llama, LlamaShape
from text import BEGIN, END_IDS, PAD


def write_model(model: Llama, folder: pathlib.Path) -> None:
    """Writes config.json, generation_config.json and model.safetensors (bf16)."""
    shape = model.shape
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": BEGIN,
        "eos_token_id": list(END_IDS),
        "pad_token_id": PAD,
        "torch_dtype": "bfloat16",
    }
    if shape.early_exit_layer:
        config["early_exit_layer"] = shape.early_exit_layer
    generation = {"bos_token_id": BEGIN, "eos_token_id": list(END_IDS), "pad_token_id": PAD, "do_sample": False}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tensors = {name: value.to(torch.bfloat16).cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def read_model(folder: pathlib.Path) -> Llama:
    """Reads a folder that `write_model` wrote; arithmetic is in float32."""
    config = json.loads((folder / "config.json").read_text())
    model = Llama(LlamaShape(
        vocab_size=config["vocab_size"], hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"], num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"], intermediate_size=config["intermediate_size"],
        head_dim=config["head_dim"], max_positions=config["max_position_embeddings"],
        rope_theta=config["rope_theta"], norm_eps=config["rms_norm_eps"],
        early_exit_layer=config.get("early_exit_layer", 0)))
    tensors = load_file(str(folder / "model.safetensors"))
    model.load_state_dict({name: value.float() for name, value in tensors.items()})
    return model.eval()
