/* peer_llama.mjs - llama.cpp's prefill and decode rates, for bench_engine.
 * node peer_llama.mjs MODEL.gguf THREADS: each line on stdin, "prefill" (512 tokens) or "decode" (64 tokens
 * after 64), is done once and answered with a line "prefill RATE" or "decode RATE" in tokens/s. */
import { createInterface } from "node:readline";
import { getLlama } from "node-llama-cpp";

const [modelPath, threadText] = process.argv.slice(2);
const threads = Number(threadText);
const PROMPT = 512;
const AHEAD = 64;
const STEPS = 64;

const llama = await getLlama({
    gpu: false, build: "never", maxThreads: 0, logLevel: "error", progressLogs: false,
});
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({
    contextSize: PROMPT + AHEAD + STEPS, batchSize: PROMPT, sequences: 1, threads,
});
const sequence = context.getSequence();
const tokens = (count) => Array.from({ length: count }, (_, i) => 3 + ((i * 7919) % 49000));

/* The prompt's last token asks for logits, as generation would. */
async function prefill() {
    await sequence.clearHistory();
    const start = performance.now();
    const items = tokens(PROMPT);
    items[PROMPT - 1] = [items[PROMPT - 1], { generateNext: { token: true, options: { temperature: 0 } } }];
    await sequence.controlledEvaluate(items);
    return PROMPT / ((performance.now() - start) / 1000);
}

async function decode() {
    await sequence.clearHistory();
    let done = 0;
    let start = 0;
    for await (const token of sequence.evaluate(tokens(AHEAD), {
        temperature: 0, yieldEogToken: true,
    })) {
        if (done === 0) start = performance.now();
        if (done === STEPS) break;
        done += token === undefined ? 0 : 1;
    }
    return STEPS / ((performance.now() - start) / 1000);
}

await prefill();
await decode();
const measures = { prefill, decode };
for await (const name of createInterface({ input: process.stdin })) console.log(`${name} ${await measures[name]()}`);
await context.dispose();
await model.dispose();
await llama.dispose();
process.exit(0);
