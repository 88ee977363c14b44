// ONNX Runtime Web on one thread of a Web Worker: from tokens to RGBA bytes.
import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
let session, tokens;

addEventListener("message", async ({ data }) => {
  if (data) {
    session = await ort.InferenceSession.create(data.graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    tokens = BigInt64Array.from(data.tokens, BigInt);
    return postMessage(null);
  }
  const begun = performance.now();
  const input = new ort.Tensor("int64", tokens, [tokens.length]);
  const output = await session.run({ tokens: input });
  const rgba = output[session.outputNames[0]].data;
  postMessage({ ms: performance.now() - begun, rgba });
});
