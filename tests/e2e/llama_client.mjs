/* llama_client.mjs - what llama.cpp continues a prompt with, for tests/integration/test_llama.c.
 * node llama_client.mjs MODEL.gguf OUT.f32 COUNT ID...: writes COUNT rows, each the logits (float32) after the
 * prompt and the tokens chosen so far, and prints the COUNT tokens of the highest logits. fp32 cache, no
 * flash attention: as near to plain arithmetic as it goes. Exit 77: it is not installed. */
import { existsSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const peer = "tests/bench/node_modules/node-llama-cpp/dist/index.js";
if (!existsSync(peer)) process.exit(77);
const { getLlama } = await import(pathToFileURL(peer));
const [modelPath, outPath, countText, ...ids] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 0, logLevel: "error", progressLogs: false });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const count = Number(countText);
const context = await model.createContext({
    contextSize: ids.length + count, batchSize: ids.length, sequences: 1, threads: 1, flashAttention: false,
    experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
});
const sequence = context.getSequence();
const rows = [];
const chosen = [];
let items = ids.map(Number);
while (chosen.length < count) {
    items[items.length - 1] = [items.at(-1), { generateNext: { logits: true } }];
    const answer = await sequence.controlledEvaluate(items);
    const logits = answer.at(-1).next.logits;
    const row = new Float32Array(logits.size);
    for (const [token, logit] of logits) row[token] = logit;
    rows.push(Buffer.from(row.buffer));
    chosen.push(row.indexOf(row.reduce((most, each) => Math.max(most, each), -Infinity)));
    items = [chosen.at(-1)];
}
writeFileSync(outPath, Buffer.concat(rows));
console.log(chosen.join(" "));
process.exit(0);
