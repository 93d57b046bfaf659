# peft_client.py FOLDER - PyTorch against adapters of ours, and ours against adapters of its: for
# tests/integration/test_peft.c. Exit 77: PyTorch is not installed.
#
# FOLDER holds config.json, model.safetensors, tokens.json (ids, and the positions whose logits count),
# ours/ (an adapter that was exported) and ours.f32 (its logits). Written are theirs-NAME/, adapters as PEFT
# saves them, and theirs-NAME.f32, their logits. The forward pass is written from the papers' formulas
# (RMSNorm, rotary positions, grouped queries, SwiGLU, LoRA), the files from their formats' descriptions.
import json
import math
import os
import struct
import sys

try:
    import torch
except ImportError:
    sys.exit(77)

torch.set_grad_enabled(False)
folder = sys.argv[1]
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def load(path):
    data = bytearray(open(path, "rb").read())
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data[8 + size + begin:8 + size + end], dtype=TYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).float()
    return tensors


def save(path, tensors, kind):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        values = tensor.to(TYPES[kind]).contiguous().flatten()
        data = bytes(values.view(torch.uint8).tolist()) if kind == "F32" else bytes(
            values.view(torch.int16).view(torch.uint8).tolist())
        header[name] = {"dtype": kind, "shape": list(tensor.shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + body)


config = json.load(open(os.path.join(folder, "config.json")))
base = load(os.path.join(folder, "model.safetensors"))
given = json.load(open(os.path.join(folder, "tokens.json")))
DIM = config["head_dim"]
HEADS, GROUPS = config["num_attention_heads"], config["num_key_value_heads"]


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]) * weight


def rotate(x):
    count = x.shape[1]
    frequency = config["rope_theta"] ** (-torch.arange(0, DIM, 2).double() / DIM)
    angle = torch.arange(count).double()[:, None] * frequency
    cos, sin = angle.cos().float(), angle.sin().float()
    low, high = x[..., :DIM // 2], x[..., DIM // 2:]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


class Adapter:
    def __init__(self, name):
        path = os.path.join(folder, name)
        settings = json.load(open(os.path.join(path, "adapter_config.json")))
        assert settings["peft_type"] == "LORA" and settings["bias"] == "none", settings
        assert settings["base_model_name_or_path"], settings
        rank = settings["r"]
        self.scale = settings["lora_alpha"] / (math.sqrt(rank) if settings["use_rslora"] else rank)
        self.tensors = load(os.path.join(path, "adapter_model.safetensors"))
        self.used = set()
        targets = settings["target_modules"]
        for key, tensor in self.tensors.items():
            assert any(".%s.lora_" % target in key for target in targets), key
            assert tensor.shape[0 if "lora_A" in key else 1] == rank, key

    def delta(self, layer, part):
        name = "base_model.model.model.layers.%d.%s.lora_%%s.weight" % (layer, part)
        if name % "A" not in self.tensors:
            return 0.0
        self.used |= {name % "A", name % "B"}
        return self.scale * (self.tensors[name % "B"] @ self.tensors[name % "A"])


def logits(adapter):
    def linear(x, layer, name):
        part = ("self_attn." if name in ATTENTION else "mlp.") + name
        weight = base["model.layers.%d.%s.weight" % (layer, part)]
        return x @ (weight + (adapter.delta(layer, part) if adapter else 0.0)).T

    def heads(x, count):
        return x.reshape(x.shape[0], count, DIM).transpose(0, 1)

    x = base["model.embed_tokens.weight"][given["tokens"]]
    count = x.shape[0]
    hidden = torch.full((count, count), -math.inf).triu(1)
    for layer in range(config["num_hidden_layers"]):
        at = "model.layers.%d." % layer
        h = norm(x, base[at + "input_layernorm.weight"])
        q = rotate(heads(linear(h, layer, "q_proj"), HEADS))
        k = rotate(heads(linear(h, layer, "k_proj"), GROUPS)).repeat_interleave(HEADS // GROUPS, 0)
        v = heads(linear(h, layer, "v_proj"), GROUPS).repeat_interleave(HEADS // GROUPS, 0)
        scores = (q @ k.transpose(1, 2) / math.sqrt(DIM) + hidden).softmax(-1)
        x = x + linear((scores @ v).transpose(0, 1).reshape(count, -1), layer, "o_proj")
        h = norm(x, base[at + "post_attention_layernorm.weight"])
        gated = torch.nn.functional.silu(linear(h, layer, "gate_proj")) * linear(h, layer, "up_proj")
        x = x + linear(gated, layer, "down_proj")
    x = norm(x, base["model.norm.weight"])
    head = base["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return (x @ head.T)[given["positions"]]


def agree(got, path):
    data = bytearray(open(path, "rb").read())
    want = torch.frombuffer(data, dtype=torch.float32).reshape(got.shape)
    return bool(((got - want).abs() <= 1e-4 + 1e-4 * want.abs()).all())


ours = Adapter("ours")
assert agree(logits(ours), os.path.join(folder, "ours.f32")), "logits under the exported adapter"
assert ours.used == set(ours.tensors), "tensors that PEFT would not find"
assert not agree(logits(None), os.path.join(folder, "ours.f32")), "the adapter changes nothing"

# Every member that PEFT 0.17 writes.
SETTINGS = {
    "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "base", "bias": "none",
    "corda_config": None, "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": True, "layer_replication": None,
    "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_bias": False,
    "lora_dropout": 0.05, "megatron_config": None, "megatron_core": "megatron.core",
    "modules_to_save": None, "peft_type": "LORA", "qalora_group_size": 16, "rank_pattern": {},
    "revision": None, "target_parameters": None, "task_type": "CAUSAL_LM",
    "trainable_token_indices": None, "use_dora": False, "use_qalora": False,
}
random = torch.Generator().manual_seed(7)
for name, rank, alpha, rslora, targets, kind in (
    ("lora", 6, 9, False, ["v_proj", "q_proj"], "F32"),
    ("rslora", 4, 3, True, list(ATTENTION) + ["down_proj", "up_proj", "gate_proj"], "BF16"),
    ("half", 3, 5, False, ["down_proj", "o_proj"], "F16"),
):
    path = os.path.join(folder, "theirs-" + name)
    os.makedirs(path)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for target in targets:
            part = ("self_attn." if target in ATTENTION else "mlp.") + target
            out, width = base["model.layers.%d.%s.weight" % (layer, part)].shape
            for which, shape in (("A", (rank, width)), ("B", (out, rank))):
                values = torch.randint(-32, 33, shape, generator=random) / 128.0  # exact in any type
                tensors["base_model.model.model.layers.%d.%s.lora_%s.weight" % (layer, part, which)] = values
    save(os.path.join(path, "adapter_model.safetensors"), tensors, kind)
    json.dump(dict(SETTINGS, r=rank, lora_alpha=alpha, use_rslora=rslora, target_modules=targets),
              open(os.path.join(path, "adapter_config.json"), "w"))
    result = logits(Adapter("theirs-" + name)).contiguous().flatten()
    open(os.path.join(folder, "theirs-%s.f32" % name), "wb").write(
        struct.pack("<%df" % result.numel(), *result.tolist()))
