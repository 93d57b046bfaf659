/* peer_llama.mjs - llama.cpp's prefill and decode rates, for bench_engine.
 * node peer_llama.mjs MODEL.gguf THREADS REPEATS: lines "prefill RATE" (512 tokens) and "decode RATE"
 * (64 tokens after 64), each repeated, in tokens/s. */
import { getLlama } from "node-llama-cpp";

const [modelPath, threadText, repeatText] = process.argv.slice(2);
const threads = Number(threadText);
const repeats = Number(repeatText);
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
for (let i = 0; i < repeats; i++) console.log(`prefill ${await prefill()}`);
await decode();
for (let i = 0; i < repeats; i++) console.log(`decode ${await decode()}`);
await context.dispose();
await model.dispose();
await llama.dispose();
process.exit(0);
