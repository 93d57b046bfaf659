"""peer_torch.py - PyTorch's training rates, for bench_engine.

peer_torch.py KIND SHAPE THREADS: KIND is full (all weights) or lora (rank 8 on seven
projections, frozen base). For each line on stdin a step: forward, loss, backward, clipping, AdamW, and
a line "train RATE" in tokens/s. Line "kernel NAME": the kernel OpenBLAS computes with. Void unless OpenBLAS is seen loaded (Debian's
default BLAS is the slow reference) and its kernel uses what the processor has: an OpenBLAS older than the
processor falls back to one of twenty years ago, and is then started again with SkylakeX or Haswell.
"""
import ctypes
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional

KERNELS = {"avx512f": ("SkylakeX", {"SkylakeX", "Cooperlake", "SapphireRapids"}),
           "avx2": ("Haswell", {"Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids"})}


def blas_kernel():
    """The kernel of the OpenBLAS that PyTorch has loaded; None: there is none."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        paths = {line.split()[-1] for line in maps if "libopenblas" in line}
    if not paths:
        return None
    name = ctypes.CDLL(paths.pop()).openblas_get_corename
    name.restype = ctypes.c_char_p
    return name().decode()


def kernel_check():
    kernel = blas_kernel()
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        flags = next((set(line.split()) for line in info if line.startswith("flags")), set())
    wanted = next((KERNELS[flag] for flag in KERNELS if flag in flags), None)
    if kernel is None:
        print("void libopenblas is not loaded")
        sys.exit(1)
    if wanted is not None and kernel not in wanted[1]:
        if os.environ.get("OPENBLAS_CORETYPE") == wanted[0]:
            print("void OpenBLAS computes with its", kernel, "kernel")
            sys.exit(1)
        os.environ["OPENBLAS_CORETYPE"] = wanted[0]
        os.execv(sys.executable, [sys.executable] + sys.argv)
    print("kernel", kernel, flush=True)


kernel_check()
kind, shape, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(1)

# hidden, ffn, layers, heads, key-value heads, head dim, vocab, sequences of 256
SHAPES = {
    "3m": (192, 512, 6, 6, 2, 32, 4096, 8),
    "12m": (384, 1024, 6, 6, 2, 64, 8192, 8),
    "135m": (576, 1536, 30, 9, 3, 64, 49152, 4),
}
HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, DIM, VOCAB, BATCH = SHAPES[shape]
CONTEXT = 256
RANK = 8


class Linear(nn.Module):
    """W x, and over a frozen W an adapter: W x + s (B (A x))."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02)
        self.adapted = kind == "lora"
        if self.adapted:
            self.weight.requires_grad_(False)
            self.a = nn.Parameter(torch.randn(RANK, inputs) * 0.02)
            self.b = nn.Parameter(torch.zeros(outputs, RANK))

    def forward(self, x):
        y = functional.linear(x, self.weight)
        if self.adapted:
            y = y + functional.linear(functional.linear(x, self.a), self.b) * 2.0
        return y


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN), requires_grad=kind == "full")

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    half = DIM // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.o = Linear(HIDDEN, HEADS * DIM), Linear(HEADS * DIM, HIDDEN)
        self.k, self.v = Linear(HIDDEN, KV_HEADS * DIM), Linear(HIDDEN, KV_HEADS * DIM)
        self.gate, self.up, self.down = Linear(HIDDEN, FFN), Linear(HIDDEN, FFN), Linear(FFN, HIDDEN)
        self.norm1, self.norm2 = Norm(), Norm()

    def forward(self, x, cos, sin, mask):
        h = self.norm1(x)
        q = rotate(self.q(h).view(BATCH, CONTEXT, HEADS, DIM).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(BATCH, CONTEXT, KV_HEADS, DIM).transpose(1, 2), cos, sin)
        v = self.v(h).view(BATCH, CONTEXT, KV_HEADS, DIM).transpose(1, 2)
        k = k.repeat_interleave(HEADS // KV_HEADS, 1)
        v = v.repeat_interleave(HEADS // KV_HEADS, 1)
        scores = torch.matmul(q, k.transpose(2, 3)) * DIM**-0.5 + mask
        mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2)
        x = x + self.o(mixed.reshape(BATCH, CONTEXT, HEADS * DIM))
        h = self.norm2(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(VOCAB, HIDDEN) * 0.02, requires_grad=kind == "full")
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()
        frequency = 1e4 ** (-torch.arange(0, DIM, 2) / DIM)
        angle = torch.outer(torch.arange(CONTEXT).float(), frequency)
        self.cos, self.sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
        self.mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)

    def forward(self, tokens):
        x = functional.embedding(tokens, self.embed)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        return functional.linear(self.norm(x), self.embed)


model = Model()
parameters = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.AdamW(parameters, lr=1e-4, foreach=True)


def step():
    tokens = torch.randint(3, VOCAB, (BATCH, CONTEXT + 1))
    start = time.perf_counter()
    logits = model(tokens[:, :-1])
    loss = functional.cross_entropy(logits.reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return BATCH * CONTEXT / (time.perf_counter() - start)


step()
for _ in sys.stdin:
    print("train", step(), flush=True)
