"""Derives profiles/*.json, the step times of devices that are not here, from published bandwidths and rates.

    python3 tools/device_profiles/derive.py            writes profiles/
    python3 tools/device_profiles/derive.py --check    exits 1 where a file is not what this would write

A roofline with stated efficiencies, nothing measured: per layer
    max(weight bytes / (bandwidth * eb), 2 * weights * rows / (rate * ef)) + fixed
over the devices of a tensor-parallel group, with `fixed` the launches and all-reduces of a layer. Stdlib only.
"""

import argparse
import json
import pathlib
import sys

PROFILES = pathlib.Path(__file__).resolve().parents[2] / "profiles"
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)

# hidden, layers, query heads, key-value heads, head size, inner size of the MLP, vocabulary (config.json of each)
MODELS = {
    "Llama-3.3-70B": (8192, 80, 64, 8, 128, 28672, 128256),
    "Llama-3.1-8B": (4096, 32, 32, 8, 128, 14336, 128256),
    "Llama-3.2-1B": (2048, 16, 32, 8, 64, 8192, 128256),
    "Qwen3-14B": (5120, 40, 40, 8, 128, 17408, 151936),
    "Qwen3-0.6B": (1024, 28, 16, 8, 128, 3072, 151936),
}

H100 = {
    "text": "NVIDIA H100 SXM5: 3.35 TB/s HBM3, 989 TFLOP/s dense bf16 (NVIDIA H100 datasheet)",
    "bandwidth": 3.35e12, "rate": 989e12, "eb": 0.70, "ef": 0.60,
    "launch": 3e-6, "launch_text": "3 us of kernel gaps a layer under CUDA graphs (assumed)",
    "all_reduce": 6e-6, "all_reduce_text": "one-shot all-reduce over NVSwitch, 6 us each (assumed)",
    "pass": 100e-6, "pass_text": "graph launch and the engine's host loop (assumed)",
    "transfer": (10e-6, 1e-7), "transfer_text": "PCIe 5 latency with ids or top scores of a row (assumed)",
    "sigma": 0.01,
}
M2_ULTRA_GPU = {
    "text": "Apple M2 Ultra, GPU of 76 cores: 800 GB/s unified memory (Apple newsroom, June 2023), 27.2 TFLOP/s "
            "fp32, taken for 16 bits too (TechPowerUp)",
    "bandwidth": 800e9, "rate": 27.2e12, "eb": 0.70, "ef": 0.60,
    "launch": 10e-6, "launch_text": "10 us of Metal kernel gaps a layer (assumed)",
    "all_reduce": 25e-6, "all_reduce_text": "all-reduce between machines, 25 us each (assumed: the paper names no "
                                            "figure of its fabric)",
    "pass": 200e-6, "pass_text": "command buffer and the host loop (assumed)",
    "transfer": (10e-6, 1e-7), "transfer_text": "unified memory: a signal (assumed; the paper speaks of microseconds)",
    "sigma": 0.02,
}
M2_ULTRA_NPU = {
    "text": "Apple M2 Ultra, Neural Engine of 32 cores: 31.6 TOPS (Apple newsroom, June 2023); its share of the "
            "800 GB/s is not published, a quarter is assumed",
    "bandwidth": 200e9, "rate": 15.8e12, "eb": 0.60, "ef": 0.40,
    "launch": 0.0, "launch_text": "compiled as one graph: none",
    "all_reduce": 25e-6, "all_reduce_text": "all-reduce between machines, 25 us each (assumed, as for the GPUs)",
    "pass": 300e-6, "pass_text": "a call of a compiled graph (assumed)",
    "transfer": (20e-6, 1e-7), "transfer_text": "unified memory: a signal (assumed)",
    "sigma": 0.02,
}
LUNAR_LAKE_NPU = {
    "text": "Intel Core Ultra 200V (Lunar Lake), NPU 4: 48 TOPS int8 (Intel, June 2024); LPDDR5X-8533 on 128 bits, "
            "136.5 GB/s, shared with CPU and GPU",
    "bandwidth": 136.5e9, "rate": 48e12, "eb": 0.50, "ef": 0.30,
    "launch": 0.0, "launch_text": "compiled as one graph: none",
    "all_reduce": 0.0, "all_reduce_text": "",
    "pass": 500e-6, "pass_text": "a command list of a compiled graph through the driver (assumed)",
    "transfer": (30e-6, 1e-7), "transfer_text": "shared memory and a driver call (assumed)",
    "sigma": 0.03,
}

# name: (device, devices of the group, model, bytes a weight, description, checks against published figures)
PROFILES_OF = {
    "8xh100-llama-3.3-70b": (
        H100, 8, "Llama-3.3-70B", 2, "Target: Llama-3.3-70B in bf16 on eight H100, tensor-parallel.",
        "Check: the same formula with four H100 gives 16.1 ms a token; SSD (Saguaro) publishes 261 tokens/s as 4.0 x "
        "plain decoding on four, 15.3 ms."),
    "h100-qwen3-14b": (
        H100, 1, "Qwen3-14B", 2, "Target: Qwen3-14B in bf16 on one H100.", ""),
    "h100-llama-3.1-8b": (
        H100, 1, "Llama-3.1-8B", 2, "Target: Llama-3.1-8B in bf16 on one H100.",
        "Check: 6.6 ms a token; SGLang publishes 158 tokens/s of plain decoding on one H100, 6.3 ms."),
    "h100-llama-3.2-1b": (
        H100, 1, "Llama-3.2-1B", 2, "Draft: Llama-3.2-1B in bf16 on an H100 of its own, as SSD places it.", ""),
    "npu-llama-3.2-1b": (
        LUNAR_LAKE_NPU, 1, "Llama-3.2-1B", 1, "Draft: Llama-3.2-1B in int8 on a laptop's NPU.", ""),
    "npu-qwen3-0.6b": (
        LUNAR_LAKE_NPU, 1, "Qwen3-0.6B", 1, "Draft: Qwen3-0.6B in int8 on a laptop's NPU.", ""),
    "mirror-sd-target-qwen3-14b": (
        M2_ULTRA_GPU, 8, "Qwen3-14B", 2,
        "The target of the Mirror-SD paper (arXiv 2510.13161) as far as known: Qwen3-14B on the GPUs of eight M2 "
        "Ultra, tensor-parallel. The paper gives no step time: every one is derived here.", ""),
    "mirror-sd-draft-qwen3-0.6b": (
        M2_ULTRA_NPU, 8, "Qwen3-0.6B", 2,
        "The draft of the Mirror-SD paper (arXiv 2510.13161) as far as known: a 0.6B model sharded over the Neural "
        "Engines of eight M2 Ultra. The paper gives no step time: every one is derived here, for one token a pass "
        "(its Speculative Streaming yields several).", ""),
}


def significant(seconds):
    return float(f"{seconds:.4g}")


def roofline(device, group, weights, weight_bytes, fixed):
    """[[rows, seconds], ...]: the fixed row counts and the one where the two limits meet."""
    memory = weights * weight_bytes / (group * device["bandwidth"] * device["eb"])
    one_row = 2 * weights / (group * device["rate"] * device["ef"])
    knee = int(memory / one_row)
    rows = sorted(set(ROWS) | ({knee} if 1 < knee < ROWS[-1] else set()))
    table = [[r, significant(max(memory, one_row * r) + fixed)] for r in rows]
    # Points within a flat stretch say nothing.
    return [p for i, p in enumerate(table)
            if i in (0, len(table) - 1) or not table[i - 1][1] == p[1] == table[i + 1][1]]


def derive(name):
    device, group, model, weight_bytes, description, check = PROFILES_OF[name]
    hidden, layers, heads, kv_heads, head_size, inner, vocabulary = MODELS[model]
    layer_weights = hidden * (2 * heads + 2 * kv_heads) * head_size + 3 * hidden * inner
    head_weights = hidden * vocabulary
    reduces = 2 if group > 1 else 0
    gathers = 1 if group > 1 else 0
    limits = (f"max(bytes / ({group} x {device['bandwidth'] / 1e9:g} GB/s x {device['eb']:g}), 2 x weights x rows / "
              f"({group} x {device['rate'] / 1e12:g} T/s x {device['ef']:g}))")
    per_layer = device["launch_text"] + (f"; two of: {device['all_reduce_text']}" if reduces else "")
    fixed = device["launch"] + reduces * device["all_reduce"]
    base, row = device["transfer"]
    kv_bytes = 2 * kv_heads * head_size * 2
    return {
        "format": "mirrorsd-device-profile/1",
        "name": name,
        "description": description,
        "basis": "derived",
        "num_layers": layers,
        "pass_s": device["pass"],
        "embedding_s": 5e-6,
        "layer": roofline(device, group, layer_weights, weight_bytes, fixed),
        "kv_token_s": significant(kv_bytes / (group * device["bandwidth"] * device["eb"])),
        "head": roofline(device, group, head_weights, weight_bytes,
                         device["launch"] + gathers * device["all_reduce"]),
        "transfer_in": {"base_s": base, "row_s": row},
        "transfer_out": {"base_s": base, "row_s": row},
        "jitter": {"sigma": device["sigma"], "seed": 1},
        "sources": {
            "device": device["text"],
            "model": f"{model}, {weight_bytes} bytes a weight: {layer_weights} weights a layer, {head_weights} in the "
                     f"LM head, from its config.json. {check}".strip(),
            "pass_s": device["pass_text"],
            "embedding_s": "a gather of few rows (assumed)",
            "layer": f"derived: {limits} + {fixed:g} s; {per_layer}",
            "kv_token_s": f"derived: {kv_bytes} bytes of keys and values a token and layer, 16 bits each, over the "
                          "same bandwidth",
            "head": "derived: the same limits over the LM head's weights; the exit head costs the same",
            "transfer_in": device["transfer_text"],
            "transfer_out": device["transfer_text"],
            "jitter": "assumed",
        },
    }


def text_of(profile):
    """JSON with one field a line, so that tables stay readable."""
    lines = []
    for key, value in profile.items():
        if key == "sources":
            inner = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f'  "sources": {{\n{inner}\n  }}')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    arguments = parser.parse_args()
    different = []
    for name in PROFILES_OF:
        path = PROFILES / f"{name}.json"
        text = text_of(derive(name))
        if not path.exists() or path.read_text() != text:
            different.append(name)
        if not arguments.check:
            path.write_text(text)
    if arguments.check and different:
        print("not what derive.py writes:", ", ".join(different))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
