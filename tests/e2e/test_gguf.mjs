/* test_gguf.mjs - the shipped base as a GGUF file: the command line must judge it as it judges the
 * folder, digit for digit, and cut text as llama.cpp does (SKIP where the bench's peer is absent).
 *
 * The file is written here from the folder's bytes and the format's description (ggml's docs/gguf.md). */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const openledger = join(process.env.OPENLEDGER_BIN ?? "build/release/bin", "openledger");
const base = "deploy/models/openledger-3m";
const peer = "tests/bench/node_modules/node-llama-cpp/dist/index.js";
if (!existsSync(join(base, "model.safetensors"))) {
    console.log(`SKIP: no ${base}`);
    process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "openledger-gguf-"));
const file = join(folder, "base.gguf");
let failed = 0;
const check = (name, good) => {
    console.log(`${good ? "ok" : "not ok"} ${name}`);
    failed += good ? 0 : 1;
};

const u32 = (value) => { const b = Buffer.alloc(4); b.writeUInt32LE(value); return b; };
const u64 = (value) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(value)); return b; };
const f32 = (value) => { const b = Buffer.alloc(4); b.writeFloatLE(value); return b; };
const text = (value) => { const b = Buffer.from(value); return Buffer.concat([u64(b.length), b]); };
const texts = (list) => Buffer.concat([u32(8), u64(list.length), ...list.map(text)]);
const padded = (b) => Buffer.concat([b, Buffer.alloc((32 - (b.length % 32)) % 32)]);

const LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
};

function tensorName(name) {
    const layer = name.match(/^model\.layers\.(\d+)\.(.*)\.weight$/);
    if (layer) return `blk.${layer[1]}.${LAYER[layer[2]]}.weight`;
    return name === "model.norm.weight" ? "output_norm.weight" : "token_embd.weight";
}

/* llama.cpp rotates neighbours of a head, Hugging Face its halves. */
function turned(data, rows, dim) {
    const size = data.length / rows;
    return Buffer.concat(Array.from({ length: rows }, (_, row) => {
        const at = row % dim;
        const from = row - at + (at >> 1) + (at % 2) * (dim / 2);
        return data.subarray(from * size, (from + 1) * size);
    }));
}

/* Norms are F32 in a GGUF: a bf16 number is the upper half of one. */
function widened(data) {
    const out = Buffer.alloc(data.length * 2);
    for (let i = 0; i < data.length; i += 2) data.copy(out, i * 2 + 2, i, i + 2);
    return out;
}

function ggufWrite() {
    const config = JSON.parse(readFileSync(join(base, "config.json")));
    const { model, added_tokens: added } = JSON.parse(readFileSync(join(base, "tokenizer.json")));
    const weights = readFileSync(join(base, "model.safetensors"));
    const size = Number(weights.readBigUInt64LE());
    const header = JSON.parse(weights.subarray(8, 8 + size));
    const words = [];
    for (const [word, id] of Object.entries(model.vocab)) words[id] = word;
    for (const token of added) words[token.id] = token.content;
    const special = new Set(added.map((token) => token.id));
    const types = words.map((_, id) => u32(special.has(id) ? 3 : 1));
    const number = (key, value) => [text(key), u32(4), u32(value)];
    const float = (key, value) => [text(key), u32(6), f32(value)];
    const meta = [
        [text("general.architecture"), u32(8), text("llama")],
        number("llama.context_length", config.max_position_embeddings),
        number("llama.embedding_length", config.hidden_size),
        number("llama.block_count", config.num_hidden_layers),
        number("llama.feed_forward_length", config.intermediate_size),
        number("llama.attention.head_count", config.num_attention_heads),
        number("llama.attention.head_count_kv", config.num_key_value_heads),
        float("llama.rope.freq_base", config.rope_theta),
        float("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        [text("tokenizer.ggml.model"), u32(8), text("gpt2")],
        [text("tokenizer.ggml.pre"), u32(8), text("gpt-2")],
        [text("tokenizer.ggml.tokens"), u32(9), texts(words)],
        [text("tokenizer.ggml.token_type"), u32(9), u32(5), u64(words.length), ...types],
        [text("tokenizer.ggml.merges"), u32(9),
            texts(model.merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : pair)))],
        number("tokenizer.ggml.eos_token_id", config.eos_token_id),
    ];
    const table = [];
    let data = Buffer.alloc(0);
    delete header.__metadata__;
    for (const [name, entry] of Object.entries(header)) {
        const vector = entry.shape.length === 1;
        let bytes = weights.subarray(8 + size + entry.data_offsets[0], 8 + size + entry.data_offsets[1]);
        if (/\.[qk]_proj\./.test(name)) bytes = turned(bytes, entry.shape[0], config.head_dim);
        table.push(text(tensorName(name)), u32(entry.shape.length), ...entry.shape.toReversed().map(u64),
            u32(vector ? 0 : 30), u64(data.length));
        data = Buffer.concat([data, padded(vector ? widened(bytes) : bytes)]);
    }
    writeFileSync(file, Buffer.concat([
        padded(Buffer.concat([Buffer.from("GGUF"), u32(3), u64(Object.keys(header).length),
            u64(meta.length), ...meta.flat(), ...table])), data]));
}

const TEXTS = [
    "Once upon a time there were 123 cats,  and\n\n they'll eat.",
    "na\u00efve \u{1F469}\u200d\u{1F680} \u0928\u092e\u0938\u094d\u0924\u0947 \u4f60\u597d e\u0301\r\n\tx",
    `${" ".repeat(40)}${"9".repeat(70)}${"\n".repeat(9)}a\u0001b`,
];

try {
    ggufWrite();
    const heldout = join(folder, "heldout.jsonl");
    const row = JSON.stringify({ text: "The king said unto the people that they should keep the law. ".repeat(8) });
    writeFileSync(heldout, `${row}\n`.repeat(8));
    const judge = (path) => execFileSync(openledger, ["model", "evaluate", path, heldout, "--json"],
        { encoding: "utf8" });
    const want = JSON.parse(judge(base));
    const got = JSON.parse(judge(file));
    for (const precision of ["fp32", "bf16", "f16", "int8"]) {
        check(`a gguf has the folder's loss under ${precision}`,
            Number.isFinite(want[precision].loss) && got[precision].loss === want[precision].loss);
    }
    if (existsSync(peer)) {
        const { getLlama } = await import(pathToFileURL(peer));
        const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", progressLogs: false });
        const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
        for (const [i, each] of TEXTS.entries()) {
            const ours = execFileSync(openledger, ["tokenizer", "encode", "--tokenizer",
                join(base, "tokenizer.json"), each], { encoding: "utf8" });
            check(`text ${i} has llama.cpp's tokens`, ours.trim() === model.tokenize(each).join(" "));
        }
        await model.dispose();
        await llama.dispose();
    } else {
        console.log(`SKIP: no ${peer}`);
    }
} finally {
    rmSync(folder, { recursive: true, force: true });
}
process.exit(failed === 0 ? 0 : 1);
